"""The trainer, with real DeepSpeed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from infra.configs import TrainerConfig
from infra.training.interface import LossNotFinite, LossValue
from infra.training.out_of_memory import OutOfMemory, named_when_out_of_memory
from infra.training.trainer import Trainer
from steps.packing import PackedRows, pack
from steps.supervised import response_loss
from steps.token_example import TokenExample

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
    torch.nn.Module.to(model, trainer.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=TrainerConfig().betas, weight_decay=0.0)
    losses, count = torch.zeros((), device=trainer.device), 0
    for tokens in (list(range(5, 45)), list(range(50, 90))):
        ids = torch.tensor([tokens], device=trainer.device)
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


@pytest.mark.skipif(torch.cuda.is_available(), reason="nothing is compiled at a start with a GPU")
def test_a_start_does_not_wait_for_a_compilation_whose_process_was_killed(tmp_path: Path, trainer: Trainer) -> None:
    compiled = tmp_path / "torch_extensions"
    shutil.copytree(os.environ["TORCH_EXTENSIONS_DIR"], compiled)
    (compiled / "deepspeed_shm_comm" / "lock").touch()
    command = [sys.executable, "-c", "from infra.training.operators import load_operators; load_operators()"]
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


def test_a_micro_batch_that_does_not_fit_is_named_with_what_helps(trainer: Trainer, base: Path) -> None:
    def greedy(logprobs: Tensor, rows: Any) -> LossValue:
        return LossValue(logprobs.sum() + torch.empty(2**50).sum())

    trainer.load_weights(base)
    message = r"micro-batch 1 of 2, one row of 40 tokens, .* longest example has 40.* trainer\.gradient_checkpointing, "
    with pytest.raises(OutOfMemory, match=message):
        trainer.step(ROWS, greedy, learning_rate=1e-4)
    # It continues as if nothing had happened.
    first = trainer.step(ROWS, response_loss(ROWS), learning_rate=1e-4)
    trainer.load_weights(base)
    assert trainer.step(ROWS, response_loss(ROWS), learning_rate=1e-4).loss == first.loss
    trainer.load_weights(base)


def test_errors_that_are_not_about_memory_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes$"), named_when_out_of_memory([[4]], TrainerConfig()):
        raise RuntimeError("shapes")


SPARING = [{"gradient_checkpointing": True}, {"logit_chunk_tokens": 16}]


def kept_bytes(trainer: Trainer) -> int:
    """What a forward pass keeps for the backward pass, the weights left out."""
    own = {parameter.data_ptr() for parameter in trainer.engine.module.parameters()}
    retained: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            retained[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        trainer.logprobs(ROWS[0])
    return sum(retained.values())


@pytest.mark.parametrize("sparing", SPARING, ids=lambda keys: next(iter(keys)))
def test_what_saves_memory_computes_the_same_step(sparing: dict[str, int], trainer: Trainer, base: Path) -> None:
    trainer.load_weights(base)
    expected = trainer.reference_logprobs(ROWS, temperature=0.7)
    step = trainer.step(ROWS, response_loss(ROWS), learning_rate=1e-3, temperature=0.7)
    stepped, retained = weights(trainer), kept_bytes(trainer)
    trainer.load_weights(base)
    other = Trainer(base, TrainerConfig.model_validate(sparing), seed=0)
    actual = other.reference_logprobs(ROWS, temperature=0.7)
    assert all(torch.allclose(one, two, atol=1e-5) for one, two in zip(actual, expected, strict=True))
    same = other.step(ROWS, response_loss(ROWS), learning_rate=1e-3, temperature=0.7)
    assert (same.loss, same.gradient_norm) == pytest.approx((step.loss, step.gradient_norm), rel=1e-5)
    assert weights(other).keys() == stepped.keys()
    assert all(torch.allclose(tensor, stepped[name], atol=1e-5) for name, tensor in other.weights())
    assert kept_bytes(other) < (0.6 if "gradient_checkpointing" in sparing else 0.95) * retained


def test_a_checkpoint_saved_from_a_chunked_head_is_whole(base: Path, tmp_path: Path) -> None:
    from steps.import_checkpoint import check_checkpoint

    sparing = Trainer(base, TrainerConfig(logit_chunk_tokens=16), seed=0)
    assert check_checkpoint(sparing.save(tmp_path / "model")) == check_checkpoint(base)


def test_a_generation_config_that_transformers_would_not_write_is_saved_as_it_came(base: Path, tmp_path: Path) -> None:
    model = shutil.copytree(base, tmp_path / "base")
    content = json.loads((model / "generation_config.json").read_text()) | {"temperature": 0.6, "top_p": 0.9}
    (model / "generation_config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="GenerationConfig is invalid"):
        AutoModelForCausalLM.from_pretrained(model).save_pretrained(tmp_path / "refused")
    saved = Trainer(model, TrainerConfig(), seed=0).save(tmp_path / "model")
    assert (saved / "generation_config.json").read_bytes() == (model / "generation_config.json").read_bytes()


def test_activations_are_offloaded_only_where_layers_are_checkpointed() -> None:
    with pytest.raises(ValueError, match="offload_activations: only what gradient_checkpointing keeps"):
        TrainerConfig(offload_activations=True)
    assert TrainerConfig(offload_activations=True, gradient_checkpointing=True).gradient_checkpointing
