"""Which stage of a run failed, and what went wrong: by its guard, by its record, or else by Metaflow's output."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from flows.guard import KILLED, signal_name

if TYPE_CHECKING:
    from steps.recipe import Recipe

ERROR = re.compile(r"(\w+\.)+[A-Z]\w*:|[A-Z]\w*(Error|Exception)\b.*|.*\brefused\b|step \S+: its process was .*")
"""A line that ends a traceback: an exception's path and message, or the name alone of one of Python's own."""


def find_failure(recipe: "Recipe", run: str, status: int, events: Path, log: Path) -> tuple[str | None, str]:
    """The stage that failed, where it is known, and the error's text.

    Args:
        status: of the flow's process; below 0 the signal that killed it.
        events: the run's progress, as JSON lines.
        log: what Metaflow printed.
    """
    return _killed(status, events, log) or _error_of(recipe, run, log)


def _killed(status: int, events: Path, log: Path) -> tuple[str | None, str] | None:
    """The stage whose process a signal has killed, and which; None where none has."""
    from infra.progress.view import Tail

    last = None
    for event in Tail(events).events():
        last = event if event.kind in ("stage", "stage_done") else last
    # One that was asked to end, since the flow was gone, has failed by its record.
    stage = last.stage if last and (last.kind == "stage" or last.failed) else None
    if status < 0:
        return stage, f"the flow's process was killed by {signal_name(-status)}"
    lines = [line for line in log.read_text(errors="replace").splitlines() if KILLED in line]
    if stage is None or last is None or last.failed or not lines:
        return None
    return stage, KILLED + lines[-1].rpartition(KILLED)[2]


def _error_of(recipe: "Recipe", run: str, log: Path) -> tuple[str | None, str]:
    """The stage that failed and what went wrong, by its record; or else what Metaflow's output says."""
    from flows.notify import failed_stage

    failed = failed_stage(recipe.store, run)
    if failed is not None and failed.failure is not None:
        return failed.stage, failed.failure.error
    lines = [line.split("] ", 1)[-1].strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if ERROR.match(line)]
    return None, re.sub(r"^(\w+\.)+(?=[A-Z])", "", errors[-1]) if errors else "the flow failed"
