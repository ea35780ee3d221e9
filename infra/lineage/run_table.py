"""Settings and figures of runs by name, so that tables of runs have any of them as a column, sorted and filtered.

A column is a key of the recipe (`rl.tau`), a figure of a stage (`rl: loss`, `evaluate/rl: accuracy`), or a column of
the table of runs.
"""

import operator
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, cast, func, literal, or_, select

from infra.lineage.errors import LineageError
from infra.lineage.index import LineageIndex, run_row
from infra.lineage.row_values import plain
from infra.lineage.rows import RunRow
from infra.lineage.tables import among, reading, run_settings, runs, stage_figures, stage_runs

OWN = ("run", "recipe", "status", "started", "seconds", "stages", "reused", "failed_stage", "accuracy", "seed")
"""Columns of the table of runs itself."""

_CONDITION = re.compile(r"\s*(?P<name>[^<>=!]+?)\s*(?P<sign><=|>=|!=|<|>|=)\s*(?P<value>.*?)\s*")
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
    """What a column has to be."""

    name: str
    sign: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """From `rl.tau>=0.1` or `recipe=nano`. Raises LineageError for anything else."""
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise LineageError(f"{text!r} is not a condition: expected COLUMN, one of = != < > <= >=, and a value")
        return cls(match["name"], match["sign"], match["value"])


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
    limit: int = 50,
    offset: int = 0,
) -> RunTable:
    """Runs with any settings and figures as columns, of those whose own columns have a text, newest first by default.

    Args:
        order: a column, whether it is displayed or not; with a minus in front the greatest first.
    """
    sources = _Sources()
    query = sources.select()
    for word in plain(text).casefold().split():
        query = query.where(runs.c.search.contains(word, autoescape=True))
    wheres = [sources.condition(condition) for condition in conditions]
    values = [sources.value(name) for name in columns]
    name = order.removeprefix("-")
    by: list[ColumnElement[Any]] = [*sources.value(name), runs.c.node]
    if order.startswith("-"):
        by = [each.desc() for each in by]
    query = sources.joined(query).where(*wheres)
    with reading(index.engine) as connection:
        total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
        labelled = [part.label(f"value_{n}_{p}") for n, pair in enumerate(values) for p, part in enumerate(pair)]
        rows = connection.execute(
            query.add_columns(*labelled).order_by(*[each.nulls_last() for each in by]).limit(limit).offset(offset)
        ).all()
    made = []
    for row in rows:
        pairs = [(row._mapping[f"value_{n}_0"], row._mapping[f"value_{n}_1"]) for n in range(len(values))]
        cells = [number if number is not None else text or None for number, text in pairs]
        made.append((run_row(row), cells))
    return RunTable(columns, made, total)


class _Sources:
    """Joins that a query needs for its columns: each column's once."""

    def __init__(self) -> None:
        self._joins: list[tuple[Any, ColumnElement[bool]]] = []
        self._values: dict[str, tuple[ColumnElement[Any], ColumnElement[Any]]] = {}

    def select(self) -> Select[Any]:
        return select(runs)

    def joined(self, query: Select[Any]) -> Select[Any]:
        source: Any = runs
        for table, on in self._joins:
            source = source.outerjoin(table, on)
        return query.select_from(source)

    def value(self, name: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """A column's number and its text."""
        if name not in self._values:
            self._values[name] = self._make(plain(name))
        return self._values[name]

    def condition(self, condition: Condition) -> ColumnElement[bool]:
        as_number, as_text = self.value(condition.name)
        compare = _SIGNS[condition.sign]
        try:
            value = float(condition.value)
        except ValueError:
            return compare(func.lower(as_text), condition.value.casefold())
        # Text, as of a run whose recipe has `auto` there, is compared as text.
        whole = and_(as_number.is_(None), compare(as_text, condition.value))
        return or_(compare(as_number, value), whole)

    def _make(self, name: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        if name in OWN:
            column = runs.c[name]
            numeric = name in ("seconds", "stages", "reused", "accuracy", "seed")
            nothing = literal(None)
            return (column if numeric else nothing), (cast(column, String) if numeric else column)
        stage, colon, figure = name.partition(": ")
        if colon:
            views, values = stage_runs.alias(), stage_figures.alias()
            self._joins.append((views, and_(views.c.run == runs.c.run, views.c.stage == stage)))
            self._joins.append((values, and_(values.c.execution == views.c.execution, values.c.name == figure)))
            return values.c.number, cast(values.c.number, String)
        settings = run_settings.alias()
        self._joins.append((settings, and_(settings.c.run == runs.c.run, settings.c.name == name)))
        return settings.c.number, settings.c.text


def runs_by_name(index: LineageIndex, names: Collection[str]) -> dict[str, RunRow]:
    """The lines of runs, by their names; runs without a record are left out."""
    with reading(index.engine) as connection:
        query = select(runs).where(among(connection, runs.c.run, [plain(name) for name in names]))
        return {row.run: run_row(row) for row in connection.execute(query)}
