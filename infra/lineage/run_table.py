"""Tables of runs with any of their settings and figures as columns, filtered and sorted by the database.

A column is a field of the run (`status`), a key of its recipe (`rl.tau`) or a figure of a stage (`rl:loss`); of a stage
whose model was evaluated, the figures of the evaluation are its own (`rl:accuracy`).

NOTE: the index keeps the first `infra.lineage.figures.MAX_TEXT` characters of a setting.
"""

import operator
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Float, String, and_, case, cast, func, null, or_, select

from infra.lineage.errors import LineageError
from infra.lineage.index import LineageIndex, run_row
from infra.lineage.row_values import plain, unpack
from infra.lineage.rows import RunRow
from infra.lineage.run_values import FIELDS, unknown_column
from infra.lineage.tables import among, executions, reading, run_events, run_settings, runs, stage_figures, stage_runs
from infra.store.evaluation_stages import evaluation_stage

_NUMERIC = ("seconds", "stages", "reused", "accuracy", "seed")
"""Fields of a run that are numbers."""

_NO_NUMBER: ColumnElement[Any] = cast(null(), Float)
_NO_TEXT: ColumnElement[Any] = cast(null(), String)

_CONDITION = re.compile(r"\s*([^<>=!~]+?)\s*(<=|>=|!=|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """What a run has to meet to be listed: COLUMN OPERATOR VALUE.

    Numbers are compared as numbers, everything else as text, whatever its case. A run without a value meets nothing but
    `!=`.
    """

    column: str
    operator: str
    text: str

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Raises LineageError for what is not a condition."""
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise LineageError(
                f"{text!r} is not a condition: expected COLUMN and one of = != < <= > >= ~ (contains) and a value, as "
                "in rl.tau>=0.2, rl:accuracy>0.5 or status=failed"
            )
        return cls(*match.groups())


@dataclass(frozen=True)
class RunTable:
    """Runs with the chosen columns."""

    columns: Sequence[str]
    rows: Sequence[tuple[RunRow, Sequence[float | str | None]]]
    """Each run, and its values in the columns' order; None where it has none."""
    total: int


def run_table(
    index: LineageIndex,
    columns: Sequence[str],
    text: str = "",
    conditions: Sequence[Condition] = (),
    order: str = "-started",
    limit: int | None = 50,
    offset: int = 0,
) -> RunTable:
    """Runs with any settings and figures as columns, of those whose own columns have a text, newest first by default.

    Args:
        order: a column, whether it is displayed or not; with a minus in front the greatest first. Runs without a value
            come last in either case.
        limit: None lists all.
    """
    query = select(runs.c.node).where(*(_holds(condition) for condition in conditions))
    for word in plain(text).casefold().split():
        query = query.where(runs.c.search.contains(word, autoescape=True))
    by = [part for part in _value(order.removeprefix("-")) if part is not _NO_NUMBER and part is not _NO_TEXT]
    ordered = [each.desc() if order.startswith("-") else each for each in (*by, runs.c.node)]
    numbers = query.order_by(*[each.nulls_last() for each in ordered]).limit(limit).offset(offset)
    values = [part.label(f"value_{n}_{p}") for n, name in enumerate(columns) for p, part in enumerate(_value(name))]
    with reading(index.engine) as connection:
        total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
        # Numbers first: the columns are read of the runs on the page alone.
        chosen = connection.execute(numbers).scalars().all()
        of_page = select(runs, *values).where(among(connection, runs.c.node, chosen))
        by_node = {row.node: row for row in connection.execute(of_page)}
    made = []
    for row in (by_node[node] for node in chosen):
        pairs = [(row._mapping[f"value_{n}_0"], row._mapping[f"value_{n}_1"]) for n in range(len(columns))]
        made.append((run_row(row), [text if number is None else number for number, text in pairs]))
    return RunTable(columns, made, total)


def check_columns(index: LineageIndex, columns: Iterable[str]) -> None:
    """Raises LineageError for a column that no run has, with the nearest that there are."""
    with reading(index.engine) as connection:
        for name in columns:
            number, text = _value(name)
            having = select(runs.c.node).where(or_(number.is_not(None), text.is_not(None))).limit(1)
            if name in FIELDS or connection.execute(having).first() is not None:
                continue
            known = [*FIELDS, *connection.execute(select(run_settings.c.name).distinct()).scalars()]
            figures = select(executions.c.stage, stage_figures.c.name).distinct()
            figures = figures.join(stage_figures, stage_figures.c.execution == executions.c.node)
            known += [f"{row.stage}:{row.name}" for row in connection.execute(figures)]
            if name not in known:  # a key that is null in every recipe is known
                raise unknown_column(name, known)


def recipes_of(index: LineageIndex, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """The recipes that runs started with the last time, by run; runs whose start has no record are left out."""
    with reading(index.engine) as connection:
        named = among(connection, run_events.c.run, [plain(name) for name in names])
        query = select(run_events.c.run, run_events.c.body).where(named, run_events.c.event == "started")
        rows = connection.execute(query.order_by(run_events.c.stamp, run_events.c.key))
        return {row.run: unpack(row.body).get("recipe") or {} for row in rows}


def runs_by_name(index: LineageIndex, names: Collection[str]) -> dict[str, RunRow]:
    """The lines of runs, by their names; runs without a record are left out."""
    with reading(index.engine) as connection:
        query = select(runs).where(among(connection, runs.c.run, [plain(name) for name in names]))
        return {row.run: run_row(row) for row in connection.execute(query)}


def _value(name: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """A column's number, and its text where it is not a number, each of the run at hand; NULL where it has none."""
    name = plain(name)
    if name in FIELDS:
        return (runs.c[name], _NO_TEXT) if name in _NUMERIC else (_NO_NUMBER, runs.c[name])
    stage, colon, figure = (part.strip() for part in name.partition(":"))
    if not colon:
        of_run = (run_settings.c.run == runs.c.run, run_settings.c.name == name)
        number, text = run_settings.c.number, func.nullif(run_settings.c.text, "")
        return select(number).where(*of_run).scalar_subquery(), select(text).where(*of_run).scalar_subquery()
    # Both have `seconds`, which an evaluation's are not its stage's.
    stages = [stage] if figure == "seconds" else [evaluation_stage(stage), stage]
    query = (
        select(stage_figures.c.number)
        .join(stage_runs, stage_runs.c.execution == stage_figures.c.execution)
        .where(stage_runs.c.run == runs.c.run, stage_runs.c.stage.in_(stages), stage_figures.c.name == figure)
        .order_by(case((stage_runs.c.stage == stage, 1), else_=0))
        .limit(1)
    )
    return query.correlate(runs).scalar_subquery(), _NO_TEXT


def _holds(condition: Condition) -> ColumnElement[bool]:
    """Whether the run at hand meets a condition."""
    number, text = _value(condition.column)
    expected = plain(condition.text)
    words = func.coalesce(text, cast(number, String))
    if condition.operator == "~":
        return func.lower(words).contains(expected.lower(), autoescape=True)
    compare = _SIGNS[condition.operator]
    holds: ColumnElement[bool] = compare(func.lower(words), expected.lower())
    if condition.operator in ("=", "!="):
        # SQLite knows the case of ASCII's letters alone: any other text may be the same to the letter.
        holds = (or_ if condition.operator == "=" else and_)(holds, compare(words, expected))
    with suppress(ValueError):  # the value may be a text
        holds = case((number.is_not(None), compare(number, float(expected))), else_=holds)
    return or_(words.is_(None), holds) if condition.operator == "!=" else holds
