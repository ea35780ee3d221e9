"""A real model in a process of its own: trained a little and handed over; engine and trainer compared before and after.

python -m tests.real_model_process CHECKPOINT DTYPE      prints one line of JSON
"""

import json
import os
import sys
import time
from pathlib import Path
from random import Random
from typing import Any, Literal, cast

from infra.environment import engine_environment

os.environ.update({name: value for name, value in engine_environment().items() if name != "LD_PRELOAD"})

import torch

from infra.configs import EngineConfig, TrainerConfig
from infra.inference.engine import Engine
from infra.inference.requests import Request
from infra.training.trainer import Trainer
from infra.weights.handover import HandOver
from steps.chat import Chat
from steps.configs.phase import PhaseConfig
from steps.packing import pack
from steps.supervised import train
from steps.token_example import TokenExample

PROBLEMS = [
    (f"Tom has {a} apples and buys {b} more. How many has he?", f"{a} + {b} = {a + b}\n\\boxed{{{a + b}}}")
    for a, b in ((3, 4), (12, 5), (7, 7), (20, 11))
]
PHASE = PhaseConfig(sequence_length=96, epochs=3, tokens_per_step=256, learning_rate=1e-4, final_learning_rate=5e-5)


def differences(engine: Engine, trainer: Trainer, prompt: list[int]) -> list[float]:
    """Absolute differences between both sides' log-probabilities of sampled tokens."""
    results = []
    for completion in engine.generate_all([Request(prompt, 16, seed) for seed in range(3)]):
        (rows,) = pack([TokenExample([*prompt, *completion.tokens], len(prompt))], 96, 1)
        expected = trainer.reference_logprobs([rows])[0][0, len(prompt) - 1 :].tolist()
        results += [abs(one - other) for one, other in zip(completion.logprobs, expected, strict=True)]
    return results


def main(folder: Path, dtype: Literal["float32", "bfloat16"]) -> dict[str, Any]:
    """Differences before and after, what the engine writes after, the losses, seconds."""
    start = time.monotonic()
    chat = Chat(folder)
    trainer = Trainer(folder, TrainerConfig(micro_batch_tokens=192, logit_chunk_tokens=64), seed=0)
    engine = Engine(folder, EngineConfig(dtype=dtype, context=128, max_sequences=4, kv_cache_mb=64))
    prompt = chat.prompt(PROBLEMS[0][0])
    before = differences(engine, trainer, prompt)
    logged: list[dict[str, Any]] = []
    examples = [chat.example(*problem) for problem in PROBLEMS]
    train(trainer, examples, PHASE, Random(0), "SFT", logged.append)
    HandOver(trainer, engine).to_rollout()
    # What the engine has: in bfloat16 most of so small a change is rounded away, whoever computes.
    with torch.no_grad():
        for _, weight in trainer.weights():
            weight.copy_(weight.to(getattr(torch, dtype)))
    after = differences(engine, trainer, prompt)
    (written,) = engine.generate_all([Request(prompt, 32, 0, temperature=0.0)])
    return {
        "before": before,
        "after": after,
        "losses": [one["SFT/loss"] for one in logged],
        "written": chat.text(written.tokens),
        "ended": written.ended,
        "seconds": time.monotonic() - start,
    }


if __name__ == "__main__":
    result = main(Path(sys.argv[1]), cast(Literal["float32", "bfloat16"], sys.argv[2]))
    print(json.dumps(result), flush=True)
    os._exit(0)  # engine and trainer share a process group, whose ends wait for each other
