"""What failed, stage by stage and run by run: the error, the end of the log, whether it passed later, and how to run it
again."""

import shlex
from dataclasses import asdict, dataclass
from typing import Any

from flows.logs import LogNotFound, last_lines, log_file
from infra.lineage.failures import FAILED, FailedRun, failed_runs, failure_of
from infra.lineage.index import LineageIndex

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


def failures(index: LineageIndex, run: str | None = None, limit: int = 20) -> list[RunFailure]:
    """The failures of a run, or those of the newest runs that failed or were interrupted, `limit` runs at most.

    Raises LineageError for a run that does not exist.
    """
    failed = [failure_of(index, run)] if run is not None else failed_runs(index, limit).rows
    return [failure for each in failed for failure in _of_run(each)]


def _of_run(failed: FailedRun) -> list[RunFailure]:
    run = failed.row.run
    command = shlex.join(["longhaul", *failed.command]) if failed.command else None
    if not failed.stages and failed.row.status in FAILED:
        log, lines = _log(run, None)
        error = failed.error or failed.row.status
        return [RunFailure(run, None, failed.row.started, error, log, lines, None, command)]
    matches = []
    for stage in failed.stages:
        record = stage.record
        assert record.failure is not None
        log, lines = _log(run, record.stage)
        error = record.failure.error
        matches.append(RunFailure(run, record.stage, record.started, error, log, lines, stage.passed_in, command))
    return matches


def _log(run: str, stage: str | None) -> tuple[str | None, tuple[str, ...]]:
    # By its place in this home, not by what the record says: that was written elsewhere, and may name any file.
    try:
        file = log_file(run, stage)
    except LogNotFound:
        return None, ()
    return str(file), tuple(last_lines(file, LINES))
