"""Runs that failed: where, why, and whether what failed has passed since."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from infra.lineage.index import LineageIndex, run_row
from infra.lineage.row_values import plain, unpack
from infra.lineage.rows import Page, RunRow
from infra.lineage.tables import among, executions, reading, run_events, runs
from infra.store.records import RunRecord, StageRecord

FAILED = ("failed", "interrupted")


@dataclass(frozen=True)
class FailedStage:
    """A stage that failed."""

    record: StageRecord
    passed_in: str | None
    """A later run in which a stage with the same key succeeded: the failure is over."""


@dataclass(frozen=True)
class FailedRun:
    """A run that did not succeed."""

    row: RunRow
    error: str | None
    """How the run ended."""
    command: Sequence[str] = ()
    """Arguments of `longhaul` that started it; the same ones resume it."""
    stages: Sequence[FailedStage] = field(default_factory=list)

    @property
    def resolved(self) -> bool:
        """Whether all that failed in it has passed since."""
        return bool(self.stages) and all(stage.passed_in for stage in self.stages)


def failed_runs(index: LineageIndex, limit: int = 20, offset: int = 0) -> Page[FailedRun]:
    """Runs that failed or were interrupted, newest first."""
    with reading(index.engine) as connection:
        where = runs.c.status.in_(FAILED)
        total = connection.execute(select(func.count()).select_from(runs).where(where)).scalar_one()
        newest = select(runs).where(where).order_by(runs.c.started.desc(), runs.c.node.desc())
        rows = [run_row(row) for row in connection.execute(newest.limit(limit).offset(offset))]
        return Page(tuple(_failures_of(connection, rows)), total, offset)


def failure_of(index: LineageIndex, run: str) -> FailedRun:
    """What failed in a run; no stages where nothing did. Raises LineageError where there is no such run."""
    row = index.run(run).row
    with reading(index.engine) as connection:
        return _failures_of(connection, [row])[0]


def _failures_of(connection: Connection, rows: Sequence[RunRow]) -> list[FailedRun]:
    names = [plain(row.run) for row in rows]
    events: dict[str, list[RunRecord]] = {}
    of_runs = select(run_events).where(among(connection, run_events.c.run, names)).order_by(run_events.c.stamp)
    for event in connection.execute(of_runs):
        events.setdefault(event.run, []).append(RunRecord.model_validate(unpack(event.body)))
    failed: dict[str, list[StageRecord]] = {}
    of_stages = select(executions.c.run, executions.c.body)
    of_stages = of_stages.where(among(connection, executions.c.run, names), executions.c.failed)
    for each in connection.execute(of_stages.order_by(executions.c.started)):
        failed.setdefault(each.run, []).append(StageRecord.model_validate(unpack(each.body)))
    keys = [plain(record.key) for records in failed.values() for record in records]
    passed = select(executions.c.key, executions.c.run, executions.c.started)
    passed = passed.where(among(connection, executions.c.key, keys), ~executions.c.failed)
    later: dict[str, list[tuple[str, str]]] = {}
    for success in connection.execute(passed.order_by(executions.c.started)):
        later.setdefault(success.key, []).append((success.started, success.run))
    return [
        FailedRun(
            row,
            next((event.error for event in reversed(events.get(row.run, [])) if event.event == "ended"), None),
            next((event.command for event in reversed(events.get(row.run, [])) if event.command), ()),
            [FailedStage(record, _passed_in(record, later)) for record in failed.get(row.run, [])],
        )
        for row in rows
    ]


def _passed_in(record: StageRecord, later: dict[str, list[tuple[str, str]]]) -> str | None:
    """The first run after a failure in which the same key succeeded."""
    return next((run for started, run in later.get(plain(record.key), []) if started >= record.started), None)
