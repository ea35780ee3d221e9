"""What runs are compared by: their fields, the keys of their recipes, and the figures of their stages, each under the
name of a column. Tables of many runs are in run_table.py, which reads the index alone.

A column is a field of the run (`status`), a key of the recipe (`rl.tau`), or a figure of a stage (`rl:accuracy`).
"""

import difflib
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from infra.flatten import flatten
from infra.lineage.errors import LineageError
from infra.lineage.figures import EVALUATED, modality_figures, training_name
from infra.lineage.rows import RunDetail, RunRow
from infra.lineage.statistics import Mean, mean_interval, paired_difference
from infra.store.evaluation_stages import evaluated_stage, evaluation_of, is_evaluation
from infra.store.records import StageRecord

FIELDS = tuple(each.name for each in fields(RunRow) if each.name != "id")

ELSEWHERE = ("store", "schedule", "notify", "tracking", "cluster", "seed", "name")
"""Sections of a recipe in which runs of one group may differ: nothing in them changes what a stage makes."""


def stage_figures(records: Sequence[StageRecord], stage: str) -> dict[str, float]:
    """A stage's numbers: the evaluation of its model, then what it measured itself (under its `training_name`), then
    its duration."""
    record = next((record for record in records if record.stage == stage), None)
    if record is None:
        return {}
    # The figures of `evaluate/rl` are shown once, as those of `rl`.
    shown_elsewhere = evaluated_stage(stage) in {record.stage for record in records}
    evaluation = None if shown_elsewhere else evaluation_of(records, stage)
    figures: dict[str, Any] = {name: getattr(evaluation, name) for name in EVALUATED} if evaluation else {}
    figures |= modality_figures(evaluation)
    for name, result in (evaluation.benchmarks if evaluation else {}).items():
        figures |= {f"{name} {figure}": getattr(result, figure) for figure in ("accuracy", "mean_tokens")}
    figures |= {training_name(name): value for name, value in record.metrics.items()}
    return {name: value for name, value in figures.items() if is_number(value)} | {"seconds": record.seconds}


def is_number(value: Any) -> bool:
    """Whether a value is a number; a truth value is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class RunValues:
    """A run with all that a column can be."""

    row: RunRow
    load: Callable[[], RunDetail]
    """Called once, for a column that is not a field of the run."""

    @cached_property
    def detail(self) -> RunDetail:
        """All that is recorded of the run."""
        return self.load()

    @property
    def run(self) -> str:
        """The run's name."""
        return self.row.run

    @property
    def seed(self) -> int | None:
        """The recipe's; None where the record of the start is missing."""
        return self.row.seed

    @cached_property
    def config(self) -> dict[str, Any]:
        """The recipe's keys."""
        return flatten(self.detail.start.recipe) if self.detail.start else {}

    @cached_property
    def figures(self) -> dict[str, float]:
        """By STAGE:FIGURE, of the stages that did not fail."""
        finished = [record for record in self.detail.stages if record.failure is None]
        names = [record.stage for record in finished]
        return {
            f"{stage}:{name}": value
            for stage in names
            if evaluated_stage(stage) not in names
            for name, value in stage_figures(finished, stage).items()
        }

    @cached_property
    def identity(self) -> str:
        """The digest of all that the run's stages ran with, but for the seed, what they read of one another, and the
        numeric environment."""
        parts = {
            record.stage: [
                record.key_format,
                record.config,
                record.source_digests,
                record.modules,
                record.packages,
                record.failure is None,
            ]
            for record in self.detail.stages
        } | {"fork": [self.fork] if self.fork else []}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def fork(self) -> str:
        """STAGE@N of the iterations from which stages continued, whichever runs these were of; '' where none did."""
        points = [record.forked_from for record in self.detail.stages if record.forked_from]
        return ", ".join(f"{point.stage}@{point.iteration}" for point in points)

    def value(self, column: str) -> Any:
        """A column's value; None where the run has none."""
        if column in FIELDS:
            return getattr(self.row, column)
        return self.figures.get(column) if ":" in column else self.config.get(column)

    @property
    def columns(self) -> set[str]:
        """Those that the run has a value of."""
        return {*FIELDS, *self.config, *self.figures}


def check_columns(columns: Iterable[str], runs: Sequence[RunValues]) -> None:
    """Raises LineageError for a column that none of the runs has, with the nearest that there are."""
    for column in columns:
        if column not in FIELDS and not any(column in run.columns for run in runs):
            raise unknown_column(column, set(FIELDS).union(*(run.columns for run in runs)))


def unknown_column(column: str, known: Iterable[str]) -> LineageError:
    """The error for a column that no run has, with the nearest of those that are known."""
    near = difflib.get_close_matches(column, sorted(set(known)), 3, 0.4)
    hint = f"; near it are {', '.join(near)}" if near else ""
    return LineageError(
        f"no run has a column {column!r}{hint}. A column is a field of the run ({', '.join(FIELDS)}), a key of the "
        "recipe (rl.tau) or a figure of a stage (rl:accuracy)"
    )


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    label: str
    """In what the group's recipe differs from the other groups'."""
    runs: tuple[RunValues, ...]
    """One for each seed: the newest."""

    def by_seed(self, column: str) -> dict[int, float]:
        """A column's numbers by seed."""
        values = {run.seed: run.value(column) for run in self.runs}
        return {seed: value for seed, value in values.items() if seed is not None and is_number(value)}


@dataclass(frozen=True)
class GroupFigure:
    """A figure of a group."""

    group: str
    figure: str
    mean: Mean
    difference: Mean | None
    """From the first group, over the seeds that both have; None in the first group, and where they share no seed."""


def groups_of(runs: Sequence[RunValues]) -> list[Group]:
    """Runs grouped by everything but the seed, in the order in which the groups first appear; of several runs with one
    seed, the one that started last. A run without a seed is left out."""
    members: dict[str, dict[int, RunValues]] = {}
    for run in runs:
        if run.seed is not None:
            seeds = members.setdefault(run.identity, {})
            earlier = seeds.get(run.seed)
            if earlier is None or run.row.started >= earlier.row.started:
                seeds[run.seed] = run
    groups = [tuple(seeds[seed] for seed in sorted(seeds)) for seeds in members.values()]
    labels = _labels([group[0] for group in groups])
    return [Group(label, group) for label, group in zip(labels, groups, strict=True)]


def group_figures(groups: Sequence[Group], columns: Sequence[str]) -> list[GroupFigure]:
    """Each column's mean in each group, and its difference from the first group's."""
    figures = []
    for column in columns:
        base = groups[0].by_seed(column) if groups else {}
        for number, group in enumerate(groups):
            values = group.by_seed(column)
            mean = mean_interval(list(values.values()))
            if mean is not None:
                difference = paired_difference(base, values) if number else None
                figures.append(GroupFigure(group.label, column, mean, difference))
    return figures


def comparison(groups: Sequence[Group], keys: Sequence[str], rows: Sequence[GroupFigure], base: str) -> dict[str, Any]:
    """A comparison of groups as JSON.

    Args:
        keys: columns that have one value in a group.
        base: label of the group that differences are from.
    """
    return {"base": base, "groups": [_group_data(group, keys, rows) for group in groups]}


def _group_data(group: Group, keys: Sequence[str], rows: Sequence[GroupFigure]) -> dict[str, Any]:
    return {
        "group": group.label,
        "runs": [run.run for run in group.runs],
        "seeds": [run.seed for run in group.runs],
        "values": {key: group.runs[0].value(key) for key in keys},
        "figures": {
            row.figure: {
                **row.mean.plain(),
                "by_seed": group.by_seed(row.figure),
                "difference": row.difference.plain() if row.difference else None,
            }
            for row in rows
            if row.group == group.label
        },
    }


def common_figures(runs: Sequence[RunValues]) -> list[str]:
    """What is compared unless columns are chosen: accuracy and length of each model that was evaluated."""
    names = dict.fromkeys(name for run in runs for name in run.figures)
    compared = ("accuracy", "mean_tokens")
    return [name for name in names if name.partition(":")[2] in compared and not is_evaluation(name.partition(":")[0])]


def _labels(firsts: Sequence[RunValues]) -> list[str]:
    """For each group, the keys of the recipe in which the groups differ, with its values."""
    configs = [
        {name: value for name, value in run.config.items() if name.partition(".")[0] not in ELSEWHERE}
        | ({"fork": run.fork} if run.fork else {})
        for run in firsts
    ]
    names = sorted(set[str]().union(*configs))
    differing = [name for name in names if len({_text(config.get(name)) for config in configs}) > 1]
    labels = []
    for run, config in zip(firsts, configs, strict=True):
        words = [f"{name}={_text(config.get(name))}" for name in differing]
        labels.append(" ".join(words) or str(run.row.recipe or "runs"))
    # What the recipe does not say (code, data, packages, which stages ran): the group's first run stands for it.
    return [
        f"{label} (as {run.run})" if labels.count(label) > 1 else label
        for label, run in zip(labels, firsts, strict=True)
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
