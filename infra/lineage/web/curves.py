"""Curves: what stages logged over their steps, made ready to be drawn beside each other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.lineage.row_values import number
from infra.store.records import StageRecord

FIRST = ("accuracy", "reward", "loss", "response_tokens", "mean_tokens", "gradient_norm", "staleness")
"""What people look at first."""

ASIDE = ("_seconds", "_saved", "rollout_tokens")
"""Endings of names that tell of speed rather than of learning."""

MOST_POINTS = 2000


@dataclass(frozen=True)
class Extent:
    """A series in four figures, for who reads rather than looks."""

    first: float
    last: float
    lowest: float
    highest: float
    steps: int


@dataclass(frozen=True)
class Curve:
    """One metric of a stage, for one or two runs."""

    metric: str
    series: tuple[Sequence[float | None], ...]
    """One for each run, by step; None where nothing was logged."""

    @property
    def extents(self) -> list[Extent | None]:
        """One for each run; None for a run that never logged it."""
        told: list[Extent | None] = []
        for series in self.series:
            values = [value for value in series if value is not None]
            told.append(Extent(values[0], values[-1], min(values), max(values), len(values)) if values else None)
        return told

    @property
    def moves(self) -> bool:
        """Whether there is anything to see: more than one step and more than one value."""
        values = {value for series in self.series for value in series if value is not None}
        return len(values) > 1 and max(len(series) for series in self.series) > 1

    @property
    def aside(self) -> bool:
        """Whether it tells of speed, or of nothing."""
        return self.metric.endswith(ASIDE) or not self.moves

    @property
    def points(self) -> dict[str, Any]:
        """`steps`, from the first that was logged to the last, and one list of values for each run, all of one length;
        thinned out beyond MOST_POINTS."""
        logged = [step for series in self.series for step, value in enumerate(series) if value is not None]
        first, last = min(logged), max(logged)
        stride = max(1, math.ceil((last - first) / MOST_POINTS))
        steps = sorted({*range(first, last + 1, stride), last})
        values = [[series[step] if step < len(series) else None for step in steps] for series in self.series]
        return {"steps": [step + 1 for step in steps], "series": values}


def curves_of(records: Sequence[StageRecord | None]) -> list[Curve]:
    """The curves of one stage in some runs, the most telling first; None stands for a run without that stage."""
    histories: list[Sequence[Mapping[str, Any]]] = [record.history if record else [] for record in records]
    names = dict.fromkeys(name for history in histories for step in history for name in step)
    curves = [
        Curve(name, tuple([number(step.get(name)) for step in history] for history in histories)) for name in names
    ]
    return sorted((curve for curve in curves if any(curve.extents)), key=_place)


def _place(curve: Curve) -> tuple[bool, int, str]:
    name = curve.metric.rpartition("/")[2]
    return curve.aside, FIRST.index(name) if name in FIRST else len(FIRST), curve.metric
