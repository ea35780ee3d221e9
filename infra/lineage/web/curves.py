"""Curves: the metrics that stages logged over their steps, ready to be drawn beside each other."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from infra.lineage.row_values import number
from infra.store.records import StageRecord

PRIMARY = ("accuracy", "reward", "loss", "response_tokens", "mean_tokens", "gradient_norm", "staleness")
"""Metrics that people look at first, in this order."""

SECONDARY = ("_seconds", "_saved", "rollout_tokens")
"""Endings of the names of metrics of speed rather than of learning."""

MAX_POINTS = 2000


@dataclass(frozen=True)
class SeriesSummary:
    """A series in a few figures, to be read instead of seen."""

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
    places: tuple[int, ...] = ()
    """What stands on the axis, by step, where it is not the steps."""

    @property
    def summaries(self) -> list[SeriesSummary | None]:
        """One for each run; None for a run that never logged it."""
        summaries: list[SeriesSummary | None] = []
        for series in self.series:
            values = [value for value in series if value is not None]
            summary = SeriesSummary(values[0], values[-1], min(values), max(values), len(values)) if values else None
            summaries.append(summary)
        return summaries

    @property
    def varies(self) -> bool:
        """Whether it has more than one step and more than one value."""
        values = {value for series in self.series for value in series if value is not None}
        return len(values) > 1 and max(len(series) for series in self.series) > 1

    @property
    def secondary(self) -> bool:
        """Whether it is a metric of speed, or constant."""
        return self.metric.endswith(SECONDARY) or not self.varies

    @property
    def points(self) -> dict[str, Any]:
        """`steps`, from the first that was logged to the last, `of` what they are, and one list of values for each run,
        all of one length; thinned out beyond MAX_POINTS."""
        logged = [step for series in self.series for step, value in enumerate(series) if value is not None]
        first, last = min(logged), max(logged)
        stride = max(1, math.ceil((last - first) / MAX_POINTS))
        steps = sorted({*range(first, last + 1, stride), last})
        values = [[series[step] if step < len(series) else None for step in steps] for series in self.series]
        return {
            "steps": [self.places[step] if self.places else step + 1 for step in steps],
            "series": values,
            "of": "tokens" if self.places else "step",
        }


def curves_of(records: Sequence[StageRecord | None]) -> list[Curve]:
    """The curves of one stage in some runs, the most important first; None for a run without that stage."""
    histories: list[Sequence[Mapping[str, Any]]] = [record.history if record else [] for record in records]
    names = dict.fromkeys(name for history in histories for step in history for name in step)
    curves = [
        Curve(name, tuple([number(step.get(name)) for step in history] for history in histories)) for name in names
    ]
    return [
        *_evaluation_curves(records),
        *sorted((curve for curve in curves if any(curve.summaries)), key=_place),
    ]


def mean_curves(groups: Sequence[Sequence[StageRecord | None]]) -> list[Curve]:
    """The curves of one stage in groups of runs, a series for each group: the mean at each step that all of the group's
    runs logged."""
    by_group = [{curve.metric: curve for curve in curves_of(records) if not curve.places} for records in groups]
    names = dict.fromkeys(name for curves in by_group for name in curves)
    means = [Curve(name, tuple(_mean(curves[name]) if name in curves else [] for curves in by_group)) for name in names]
    return sorted((curve for curve in means if any(curve.summaries)), key=_place)


def _mean(curve: Curve) -> list[float | None]:
    logged = [series for series in curve.series if any(value is not None for value in series)]
    means: list[float | None] = []
    for values in zip_longest(*logged):
        there = [value for value in values if value is not None]
        means.append(math.fsum(there) / len(there) if len(there) == len(logged) else None)
    return means


def _evaluation_curves(records: Sequence[StageRecord | None]) -> Iterator[Curve]:
    """Accuracy by the tokens allowed for a response, and by the length of the context, where a stage evaluated that."""
    evaluations = [record.evaluation if record else None for record in records]
    by_limit = [{one.tokens: one.accuracy for one in each.limits} if each else {} for each in evaluations]
    by_length = [
        {one.tokens: one.accuracy for one in each.context.lengths} if each and each.context else {}
        for each in evaluations
    ]
    for metric, by_tokens in (("accuracy by tokens allowed", by_limit), ("accuracy by context", by_length)):
        tokens = tuple(sorted({place for values in by_tokens for place in values}))
        if tokens:
            series = tuple([values.get(place) for place in tokens] for values in by_tokens)
            yield Curve(metric, series, tokens)


def _place(curve: Curve) -> tuple[bool, int, str]:
    name = curve.metric.rpartition("/")[2]
    return curve.secondary, PRIMARY.index(name) if name in PRIMARY else len(PRIMARY), curve.metric
