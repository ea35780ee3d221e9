"""Optimizer steps on long rows at nano width: seconds and peak memory by length, and against attention under a mask.

    .venv/bin/python -m benchmarks.long_rows [--json FILE]

Each step is taken in a process of its own, on one row of examples of 512 tokens, in float32 with checkpointed layers
and logits in chunks. `masked` is the same step with transformers' attention, which keeps the examples apart by a mask
made from their positions. `formula` is the estimate's (infra/estimate/memory.py).

What it should show: memory that grows with the length (from 16,384 to 131,072 tokens at most 8.5 times), a row of
131,072 tokens below 8 GB, and rows of 16,384 at least 8 times as fast as under a mask.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BASE = Path(__file__).parent.parent / "steps" / "nano_world" / "checkpoint"
EXAMPLE = 512
LENGTHS = (4096, 16384, 65536, 131072)
MASKED = 16384


def measure(length: int, masked: bool) -> dict[str, float]:
    """One step, in this process."""
    from infra.configs import TrainerConfig
    from infra.estimate.memory import trainer_memory
    from infra.estimate.shapes import shape_of
    from infra.training.trainer import Trainer
    from steps.packing import pack
    from steps.supervised import response_loss
    from steps.token_example import TokenExample

    config = TrainerConfig(gradient_checkpointing=True, logit_chunk_tokens=1024, micro_batch_tokens=length)
    trainer = Trainer(BASE, config, seed=0)
    if masked:
        trainer.engine.module.set_attn_implementation("sdpa")

    def rows(tokens: int) -> Any:
        examples = [TokenExample([5 + (7 * k + n) % 60 for k in range(EXAMPLE)], 64) for n in range(tokens // EXAMPLE)]
        return list(pack(examples, tokens, 1))

    warm, packed = rows(EXAMPLE), rows(length)
    trainer.step(warm, response_loss(warm), learning_rate=1e-5)
    before = _peak()
    began = time.perf_counter()
    trainer.step(packed, response_loss(packed), learning_rate=1e-5)
    seconds = time.perf_counter() - began
    memory = trainer_memory(shape_of(str(BASE)), config, 1, length)
    formula = memory.activations + memory.logits
    return {"seconds": seconds, "peak_gb": _peak(), "step_gb": _peak() - before, "formula_gb": formula / 1e9}


def _peak() -> float:
    """Of this process, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _in_a_process(length: int, masked: bool) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.long_rows",
        "--measure",
        str(length),
        *(["--masked"] if masked else []),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{length:>7,} tokens{', masked' if masked else '        '}", end="  ")
    print("  ".join(f"{name} {value:.2f}" for name, value in measured.items()), flush=True)
    return measured


def main() -> None:
    """Measure all, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what was measured to a file")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--masked", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.masked)))
        return
    steps = {length: _in_a_process(length, masked=False) for length in LENGTHS}
    masked = _in_a_process(MASKED, masked=True)
    ratios = {
        "memory, 131,072 against 16,384 tokens": steps[131072]["peak_gb"] / steps[16384]["peak_gb"],
        "step alone, 131,072 against 16,384 tokens": steps[131072]["step_gb"] / steps[16384]["step_gb"],
        "masked seconds against packed, 16,384 tokens": masked["seconds"] / steps[MASKED]["seconds"],
        "masked memory against packed, 16,384 tokens": masked["peak_gb"] / steps[MASKED]["peak_gb"],
    }
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"steps": steps, "masked": masked, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
