"""What a stage's body is given, and what it gives back.

A body knows no store, tracker or workflow: it reads folders, writes folders, and says how it went. What runs it is
`infra/stages/runner.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.gates.result import GateResult


@dataclass
class StageContext:
    """What a stage's body is given."""

    seed: int
    inputs: dict[str, Path]
    """Local, verified folders."""
    folder: Path
    """Empty scratch folder; outputs are written below it."""
    checkpoints: Path
    """What a stage keeps here it finds again if it is killed and run once more with the same key; gone once it is
    done."""
    log: Callable[[dict[str, Any]], None]
    """Takes the metrics of one step."""
    gates: list[GateResult] = field(default_factory=list)
    """Results of the data gates so far, also of the one that stopped the stage."""


@dataclass(frozen=True)
class StageOutput:
    """What a stage's body returns."""

    outputs: dict[str, tuple[str, Path]]
    """Kind and folder of each output, by name."""
    metrics: dict[str, Any]
    evaluation: dict[str, Any] | None = None
    headline: str = ""
    """One line on how it went."""


Body = Callable[[StageContext, Any], StageOutput]
"""A stage: from its context and its configuration to its outputs."""
