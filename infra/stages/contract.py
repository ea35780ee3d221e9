"""What a stage's body is given, and what it returns.

A body knows no store, tracker or workflow: it reads folders, writes folders, and says how it went. What runs it is
infra/stages/runner.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.store.evaluation import Evaluation
from infra.store.source import Source

if TYPE_CHECKING:
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
    """What a stage keeps here is there again if it is killed and run once more with the same key; gone once it is
    done."""
    log: Callable[[dict[str, Any]], None]
    """Takes the metrics of one step."""
    sources: dict[str, Source] = field(default_factory=dict)
    """What is read from outside the store, by the recipe's key that names it."""
    gates: "list[GateResult]" = field(default_factory=list)
    """Results of the data gates so far, also of the one that stopped the stage."""


@dataclass(frozen=True)
class StageOutput:
    """What a stage's body returns."""

    outputs: dict[str, tuple[str, Path]]
    """Kind and folder of each output, by name."""
    metrics: dict[str, Any]
    evaluation: Evaluation | None = None
    headline: str = ""
    """One line on how it went."""
    iterations: dict[int, Path] = field(default_factory=dict)
    """What a later run may continue from, by the number of iterations that are done then. They are no outputs: nothing
    that is made depends on which are kept, and no stage is run again for one that is gone."""


Body = Callable[[StageContext, Any], StageOutput]
"""A stage: from its context and its settings to its outputs."""

Check = Callable[[StageContext, Any], None]
"""The gates on what a stage reads: raises GateFailed (infra.gates.result) where a rule stops the stage."""
