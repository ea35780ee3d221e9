"""Run by tests as a process of its own, for vLLM tears its process group down when an engine is closed.

python engine_process.py TASK MODEL LOG, where TASK prints as JSON:

    sample / sample_bfloat16
               [[tokens, log-probabilities], …] of `requests()` from an engine in float32 / in bfloat16
    bfloat16 / all_bfloat16
               what `Rounded` describes, of an engine in bfloat16 and a trainer in float32 / in bfloat16, whose weights
               are saved in `model` beside LOG
    turns…     what `Turns` describes, of a trainer and an engine as `TURNS` has them under this name
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from infra.configs import EngineConfig, HandoverConfig, TrainerConfig
from infra.inference.engine import Engine
from infra.inference.requests import Completion, Request
from infra.progress.logs import output, quiet_to
from infra.training.trainer import Trainer
from infra.weights.handover import HandOver
from steps.packing import PackedRows, pack
from steps.supervised import response_loss
from steps.token_example import TokenExample
from tests.processes import own_environment

CLOSE = 5e-2 if torch.cuda.is_available() else 1e-4
"""How far apart the log-probabilities of engine and trainer may be, both in float32. Measured: at most 2e-5 on a CPU
(three states of the weights, 8 seeds each), and 8e-3 on an H200, where Triton's kernels multiply in TF32 by default."""

KV_CACHE_MB = 1024 if torch.cuda.is_available() else 64

PROMPTS = [[5 + (7 * i + j) % 200 for j in range(4 + i)] for i in range(12)]


def requests(**changes: Any) -> list[Request]:
    """A dozen prompts, each with a seed of its own."""
    return [
        Request(**{"tokens": prompt, "max_tokens": 24, "seed": 100 + i, **changes}) for i, prompt in enumerate(PROMPTS)
    ]


def run(task: str, model: Path, tmp_path: Path) -> Any:
    """Start this file as a process of its own. Returns what it prints first: vLLM may complain while it ends."""
    command = [sys.executable, "-m", __name__, task, str(model), str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=own_environment())
    assert done.returncode == 0, (tmp_path / "log").read_text()[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[0])


def differences(completions: Sequence[Completion], trainer: Trainer) -> Tensor:
    """[tokens]: how far the engine's log-probabilities of what it sampled for `requests()` are from the trainer's."""
    examples = [TokenExample([*PROMPTS[c.index], *c.tokens], len(PROMPTS[c.index])) for c in completions]
    results = []
    for rows in pack(examples, 128, 8):
        (trained,) = trainer.reference_logprobs([rows])
        sampled = rows.on_responses([c.logprobs for c in completions])
        results.append((trained - sampled)[rows.owners >= 0].abs())
    return torch.cat(results)


def mismatch(engine: Engine, trainer: Trainer) -> float:
    """Largest difference between the engine's log-probabilities of what it samples and the trainer's."""
    return differences(engine.generate_all(requests()), trainer).max().item()


def train_a_little(trainer: Trainer) -> list[float]:
    """Three steps that change every weight. Returns their losses."""
    rows: list[PackedRows] = list(pack([TokenExample(list(range(5, 60)), 5)], 64, 1))
    return [trainer.step(rows, response_loss(rows), learning_rate=1e-2).loss for _ in range(3)]


class Rounded(TypedDict):
    """An engine in bfloat16 before and after an update by a trainer that has trained."""

    mean_before: float
    """Mean difference of log-probabilities while the engine has the old weights."""
    mean: float
    """The same after the update."""
    largest: float
    """The largest after the update."""
    sampled: list[Any]
    """[[tokens, log-probabilities], …] of `requests()` after the update."""


def hand_over_in_bfloat16(model: Path, dtype: Literal["float32", "bfloat16"], folder: Path) -> Rounded:
    """What `Rounded` describes; the trainer, in `dtype`, is saved in a new folder."""
    trainer = Trainer(model, TrainerConfig(dtype=dtype), seed=0)
    engine = Engine(model, EngineConfig(max_sequences=64, dtype="bfloat16"))
    train_a_little(trainer)
    before = differences(engine.generate_all(requests()), trainer)
    HandOver(trainer, engine).to_rollout()
    completions = engine.generate_all(requests())
    after = differences(completions, trainer)
    trainer.save(folder)
    return {
        "mean_before": before.mean().item(),
        "mean": after.mean().item(),
        "largest": after.max().item(),
        "sampled": [[c.tokens, c.logprobs] for c in completions],
    }


TURNS = {
    "turns": (TrainerConfig(zero_stage=1), HandoverConfig(share_device=True)),
    "turns_zero_2": (TrainerConfig(zero_stage=2), HandoverConfig(share_device=True)),
    "turns_zero_3": (TrainerConfig(zero_stage=3, fused_adam=True), HandoverConfig(share_device=True)),
    "turns_checkpoint_engine": (TrainerConfig(), HandoverConfig(transport="checkpoint_engine")),
}


class Turns(TypedDict):
    """Two turns of a trainer and an engine, beside a trainer that hands over to nobody."""

    mismatches: list[float]
    """After each hand-over: the largest difference of log-probabilities."""
    losses: list[float]
    """Of three steps before the first turn, between both, and after the second."""
    losses_alone: list[float]
    """Of the same steps without an engine."""
    refused: str
    """What the engine says when it is asked for tokens in the trainer's turn."""
    released: int
    """Bytes of the GPU that the engine gives back at the end of its turn; 0 without a GPU."""
    onloaded: int
    """Bytes of it that the trainer then takes."""


def take_turns(model: Path, config: TrainerConfig, handover: HandoverConfig) -> Turns:
    """What `Turns` describes."""
    alone = Trainer(model, config, seed=0)
    losses_alone = [loss for _ in range(3) for loss in train_a_little(alone)]
    trainer = Trainer(model, config, seed=0)
    engine = Engine(
        model, EngineConfig(max_sequences=64, kv_cache_mb=KV_CACHE_MB, gpu_memory_share=0.1), handover.transport
    )
    turns = HandOver(trainer, engine, handover)
    losses, mismatches = train_a_little(trainer), list[float]()
    for _ in range(2):
        turns.to_rollout()
        completions = engine.generate_all(requests())
        turns.to_training()
        mismatches.append(differences(completions, trainer).max().item())
        losses += train_a_little(trainer)
    try:
        engine.generate_all(requests())
        refused = ""
    except RuntimeError as error:
        refused = str(error)
    turns.to_rollout()
    generating = bytes_in_use()
    engine.release()
    asleep = bytes_in_use()
    turns.to_training()
    return {
        "mismatches": mismatches,
        "losses": losses,
        "losses_alone": losses_alone,
        "refused": refused,
        "released": generating - asleep,
        "onloaded": bytes_in_use() - asleep,
    }


def bytes_in_use() -> int:
    """Of the GPU, by whichever process; 0 without one."""
    if not torch.cuda.is_available():
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free


def main() -> None:
    """Command line."""
    task, model, log = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    with quiet_to(log):
        if task in ("sample", "sample_bfloat16"):
            engine = Engine(model, EngineConfig(max_sequences=64, dtype="float32" if task == "sample" else "bfloat16"))
            answer: object = [[c.tokens, c.logprobs] for c in engine.generate_all(requests())]
        elif task in TURNS:
            answer = take_turns(model, *TURNS[task])
        else:
            dtype: Literal["float32", "bfloat16"] = "float32" if task == "bfloat16" else "bfloat16"
            answer = hand_over_in_bfloat16(model, dtype, log.parent / "model")
        output.write(json.dumps(answer) + "\n")
        output.flush()


if __name__ == "__main__":
    main()
