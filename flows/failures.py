"""What failed, stage by stage and run by run: the error, the end of the log, whether it passed later, and how to run it
again."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flows.logs import LogNotFound, last_lines, log_file
from infra.lineage.index import LineageIndex
from infra.lineage.rows import RunDetail
from infra.store import records
from infra.store.records import StageRecord
from infra.store.store import Store

LINES = 10
"""Lines of a log that are shown."""


@dataclass(frozen=True)
class RunFailure:
    """A stage that failed, or a run that ended otherwise. Texts may hold anything."""

    run: str
    stage: str | None
    """None where no stage failed: the run was killed or interrupted between stages."""
    time: str
    """UTC, ISO 8601: when the stage, or else the run, started."""
    error: str
    log: str | None
    """The log's file; None where it is not on this machine."""
    lines: tuple[str, ...]
    """The log's last lines."""
    passed_in: str | None
    """The first run in which a stage with the same key succeeded later."""
    command: str | None
    """What runs it again, for a shell."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "lines": list(self.lines)}


def failures(store: Store, index: LineageIndex, run: str | None = None, limit: int = 20) -> list[RunFailure]:
    """The failures of a run, or those of the newest runs that failed or were interrupted, `limit` runs at most.

    Raises LineageError for a run that does not exist.
    """
    if run is not None:
        return _of_run(store, index.run(run))
    rows = [row for row in index.runs(limit=2**31 - 1).rows if row.status in ("failed", "interrupted")]
    return [failure for row in rows[:limit] for failure in _of_run(store, index.run(row.run))]


def _of_run(store: Store, detail: RunDetail) -> list[RunFailure]:
    run = detail.row.run
    command = shlex.join(["longhaul", *detail.start.command]) if detail.start and detail.start.command else None
    failed = [record for record in detail.stages if record.failure is not None]
    if not failed and detail.end is not None and detail.end.status != "succeeded":
        log, lines = _log(run, None)
        error = detail.end.error or detail.end.status
        return [RunFailure(run, None, detail.row.started, error, log, lines, None, command)]
    matches = []
    for record in failed:
        assert record.failure is not None
        log, lines = _log(run, record.stage)
        passed = _passed_later(store, record)
        matches.append(RunFailure(run, record.stage, record.started, record.failure.error, log, lines, passed, command))
    return matches


def _log(run: str, stage: str | None) -> tuple[str | None, tuple[str, ...]]:
    # By its place in this home, not by what the record says: that was written elsewhere, and may name any file.
    try:
        file = log_file(run, stage)
    except LogNotFound:
        return None, ()
    return str(file), tuple(last_lines(file, LINES))


def _passed_later(store: Store, failed: StageRecord) -> str | None:
    successes: Sequence[StageRecord] = list(records.read_skipping(store, StageRecord, f"stages/{failed.key}"))
    later = (each.run for each in successes if each.failure is None and each.started >= failed.started)
    return next(later, None)
