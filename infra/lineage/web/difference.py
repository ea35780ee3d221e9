"""What differs between two runs: configuration, code, data, packages and results, stage by stage."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.flatten import flatten
from infra.lineage.histories import OTHER_BYTES, changes
from infra.lineage.rows import RunDetail
from infra.lineage.web.summaries import is_number, plain_figures
from infra.store.evaluation_stages import evaluation_record, has_own_row, is_evaluation
from infra.store.records import StageRecord


@dataclass(frozen=True)
class Comparison:
    """A value in both runs; None where a run has none."""

    name: str
    first: Any
    second: Any

    @property
    def change(self) -> float | None:
        """Second minus first, of two numbers."""
        numbers = [value for value in (self.first, self.second) if is_number(value)]
        return numbers[1] - numbers[0] if len(numbers) == 2 else None


@dataclass(frozen=True)
class StageDifference:
    """A stage in two runs; None where a run has none."""

    stage: str
    first: StageRecord | None
    second: StageRecord | None
    config: Sequence[Comparison]
    """Of all below, only lines that differ."""
    modules: Sequence[Comparison]
    packages: Sequence[Comparison]
    sources: Sequence[Comparison]
    inputs: Sequence[Comparison]
    environment: Sequence[Comparison]
    other_bytes: Sequence[Comparison]
    """Outputs that differ although the key is the same, by their digests."""
    evaluation: Sequence[Comparison]
    """Settings, modules and packages of the evaluations, where these are stages of their own."""
    metrics: Sequence[Comparison]
    """All figures, also those that are the same."""

    @property
    def same_key(self) -> bool:
        """Whether both ran with the same of everything that shapes the outputs."""
        return self.first is not None and self.second is not None and self.first.key == self.second.key

    @property
    def same(self) -> bool:
        """Whether both ran with the same key and made the same, and their models were evaluated alike."""
        return self.same_key and not (self.environment or self.other_bytes or self.evaluation)

    @property
    def accuracy(self) -> Comparison | None:
        """Of the models, where either was evaluated."""
        return next((line for line in self.metrics if line.name == "evaluation.accuracy"), None)

    @property
    def causes(self) -> list[str]:
        """What differs, in words."""
        if self.first is None or self.second is None:
            return ["only in the second run" if self.first is None else "only in the first run"]
        counts = {"setting": self.config, "module": self.modules, "package": self.packages, "source": self.sources}
        words = [f"{len(lines)} {name}{'s' if len(lines) > 1 else ''}" for name, lines in counts.items() if lines]
        if self.first.seed != self.second.seed:
            words.append("seed")
        if self.inputs:
            words.append("what came before")
        if self.environment:
            words.append("environment")
        if self.evaluation:
            words.append("how the model was evaluated")
        failed = [name for name, record in (("first", self.first), ("second", self.second)) if record.failure]
        return words + [f"failed in the {name} run" for name in failed]


def differences(first: RunDetail, second: RunDetail) -> list[StageDifference]:
    """The stages of two runs, in the order of the first and then of the second."""
    names = list(dict.fromkeys(record.stage for detail in (first, second) for record in detail.stages))
    return [_difference(name, first.stages, second.stages) for name in names if has_own_row(name, names)]


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Comparison]:
    """The names whose values differ."""
    return [
        Comparison(name, first.get(name), second.get(name))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]


def _difference(stage: str, *runs: Sequence[StageRecord]) -> StageDifference:
    first, second = (next((record for record in records if record.stage == stage), None) for records in runs)
    evaluations = [evaluation_record(records, stage) for records in runs]
    lines: defaultdict[str, list[Comparison]] = defaultdict(list)
    if first is not None and second is not None:
        for change in changes(first, second, (evaluations[0], evaluations[1])):
            lines[change.what].append(Comparison(change.name or stage, change.before, change.after))
    figures = [_figures(*pair) for pair in zip((first, second), evaluations, strict=True)]
    names = dict.fromkeys([*figures[0], *figures[1]])
    return StageDifference(
        stage,
        first,
        second,
        config=lines["config"],
        modules=lines["code"],
        packages=lines["package"],
        sources=lines["data"],
        inputs=lines["input"],
        environment=lines["environment"],
        other_bytes=lines[OTHER_BYTES],
        evaluation=_evaluation_lines(*evaluations),
        metrics=[Comparison(name, figures[0].get(name), figures[1].get(name)) for name in names],
    )


def _evaluation_lines(first: StageRecord | None, second: StageRecord | None) -> list[Comparison]:
    """What differs between two evaluations that are stages of their own, besides the model."""
    if first is None or second is None or not is_evaluation(first.stage) or not is_evaluation(second.stage):
        return []
    shaping = ("seed", "config", "code", "package", "data", "environment")
    every_change = changes(first, second, (None, None))
    return [
        Comparison(change.name or change.what, change.before, change.after)
        for change in every_change
        if change.what in shaping or (change.what == "input" and change.name != "model")
    ]


def _figures(record: StageRecord | None, evaluation: StageRecord | None) -> dict[str, Any]:
    if record is None:
        return {}
    evaluated = {f"evaluation.{name}": value for name, value in plain_figures(evaluation).items()}
    metrics = {name: value for name, value in flatten(record.metrics).items() if is_number(value)}
    return evaluated | metrics | {"seconds": record.seconds, "peak_memory_mb": record.peak_memory_mb}
