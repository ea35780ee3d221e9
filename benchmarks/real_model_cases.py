"""The cases of benchmarks/against_trl.py on a model of one's own: SFT, DPO and RL, with equal settings on both sides.

Imported in TRL's environment too, which has none of Longhaul's packages.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

METHODS = ("sft", "dpo", "rl")
CONTEXT = 384
"""Tokens of a prompt with its response: longer ones are left out of the data."""
PACKED_ROW = 1024
"""Tokens of Longhaul's rows, which hold several examples: the longer they are, the less stays empty."""
LONGEST_RESPONSE = 96
"""Of RL, in tokens."""


@dataclass(frozen=True)
class SupervisedRow:
    """A prompt with its response, and with one that DPO rejects."""

    prompt: str
    response: str
    worse: str


def load_supervised(path: Path) -> list[SupervisedRow]:
    """The rows that both sides train on, in their order."""
    return [SupervisedRow(**json.loads(line)) for line in path.read_text().splitlines()]


def save_supervised(path: Path, rows: Sequence[SupervisedRow]) -> None:
    """Write them."""
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))


def by_length(rows: Sequence[SupervisedRow], per_step: int) -> list[SupervisedRow]:
    """Rows of each optimizer step in order of their length, so that the side that pads has little to pad."""
    steps = [rows[start : start + per_step] for start in range(0, len(rows), per_step)]
    return [row for step in steps for row in sorted(step, key=lambda row: len(row.prompt + row.response + row.worse))]


def supervised_case(method: str, rows: Path, model: Path, steps: int, warm_up: int) -> dict[str, Any]:
    """Settings of SFT or DPO."""
    return {
        "method": method,
        "rows": str(rows),
        "model": str(model),
        "per_step": {"sft": 8, "dpo": 4}[method],
        "steps": steps,
        "warm_up": warm_up,
        "learning_rate": 1e-6,
        "beta": 0.1,
        "sequence_length": PACKED_ROW,
        "trl_max_length": CONTEXT,
        "trl_per_pass": {"sft": 4, "dpo": 2}[method],
    }


def rl_settings(iterations: int) -> dict[str, Any]:
    """Of `steps.configs.rl.RlConfig`: whole responses, so that partial rollouts gain nothing."""
    return {
        "iterations": iterations,
        "groups": 4,
        "responses": 4,
        "max_response_tokens": LONGEST_RESPONSE,
        "token_budget": LONGEST_RESPONSE,
        "temperature": 1.0,
        "updates": 1,
        "learning_rate": 1e-6,
        "final_learning_rate": 1e-6,
        "sequence_length": PACKED_ROW,
        "sampling": {"prioritised": False},
        "repetition": {"min_count": LONGEST_RESPONSE},
    }
