"""The trainer, with real DeepSpeed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infra.configs import TrainerConfig
from infra.trainer import LossNotFinite, LossValue, Trainer
from steps.packing import PackedRows, TokenExample, pack
from steps.supervised import response_loss

ROWS = list(pack([TokenExample(list(range(5, 45)), 4), TokenExample(list(range(50, 90)), 4)], 64, 1))


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.weights()}


def test_a_loss_that_is_not_finite_leaves_the_weights_alone(trainer: Trainer) -> None:
    before = weights(trainer)

    def poisoned(logprobs: Tensor, batch: PackedRows) -> LossValue:
        return LossValue(logprobs.sum() * torch.tensor(float("nan")))

    with pytest.raises(LossNotFinite, match="micro-batch 1 of 2"):
        trainer.step(ROWS, poisoned, learning_rate=1e-3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.weights())


def test_a_step_equals_a_plain_pytorch_step_on_the_same_examples(trainer: Trainer, base: Path) -> None:
    from transformers import AutoModelForCausalLM

    trainer.load_weights(base)
    trainer.step(ROWS, response_loss(ROWS), learning_rate=1e-3)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=TrainerConfig().betas, weight_decay=0.0)
    losses, count = torch.zeros(()), 0
    for tokens in (list(range(5, 45)), list(range(50, 90))):
        ids = torch.tensor([tokens])
        logprobs = model(input_ids=ids).logits.log_softmax(-1)
        losses = losses - logprobs[0, 3:-1].gather(1, ids[0, 4:, None]).sum()
        count += len(tokens) - 4
    (losses / count).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), TrainerConfig().clip_gradient_norm)
    optimizer.step()
    plain = dict(model.named_parameters())
    worst = max((tensor - plain[name].data).abs().max().item() for name, tensor in trainer.weights())
    trainer.load_weights(base)
    assert worst < 2e-5


def test_an_optimizer_that_was_reset_steps_like_a_new_one(trainer: Trainer, base: Path) -> None:
    trainer.load_weights(base)
    trainer.step(ROWS, response_loss(ROWS), learning_rate=1e-3)
    fresh = weights(trainer)
    trainer.load_weights(base)
    for _ in range(2):
        trainer.step(ROWS[:1], response_loss(ROWS[:1]), learning_rate=1e-3)
    trainer.load_weights(base)  # resets the optimizer
    trainer.step(ROWS, response_loss(ROWS), learning_rate=1e-3)
    again = weights(trainer)
    trainer.load_weights(base)
    assert all(torch.equal(fresh[name], again[name]) for name in fresh)


def test_a_start_does_not_wait_for_a_compilation_whose_process_was_killed(tmp_path: Path, trainer: Trainer) -> None:
    compiled = tmp_path / "torch_extensions"
    shutil.copytree(os.environ["TORCH_EXTENSIONS_DIR"], compiled)
    (compiled / "deepspeed_shm_comm" / "lock").touch()
    command = [sys.executable, "-c", "from infra.trainer import load_operators; load_operators()"]
    subprocess.run(command, env=os.environ | {"TORCH_EXTENSIONS_DIR": str(compiled)}, check=True, timeout=120)
    assert not (compiled / "deepspeed_shm_comm" / "lock").exists()


def test_a_saved_checkpoint_is_whole_and_holds_the_trained_weights(
    trainer: Trainer, base: Path, tmp_path: Path
) -> None:
    from steps.import_checkpoint import check_checkpoint

    trainer.load_weights(base)
    trainer.step(ROWS, response_loss(ROWS), learning_rate=1e-3)
    trained = weights(trainer)
    saved = trainer.save(tmp_path / "model")
    check_checkpoint(saved)
    trainer.load_weights(base)
    trainer.load_weights(saved)
    assert all(torch.equal(tensor, trained[name]) for name, tensor in trainer.weights())
    trainer.load_weights(base)
