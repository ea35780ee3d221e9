"""Reporting that a run failed: what, where, and the command that resumes it."""

import shlex
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from flows.home import open_store
from infra.environment import renamed_variable
from infra.notify import NotifyConfig, notify
from infra.store import records
from infra.store.records import StageRecord
from infra.store.store import StoreError
from steps.recipe import Recipe

REPORTED = "LONGHAUL_REPORTED_FILE"
"""Names a file to leave once a report was delivered, for the scheduler: it reports what could not report itself."""


def report_failure(
    recipe: Recipe,
    run: str | None,
    stage: str | None,
    error: str,
    command: Sequence[str],
    log: str | Path | None = None,
) -> None:
    """Report a failed run to the webhook that the recipe names. It never raises, and takes at most half a minute.

    Args:
        stage: the one that failed; default: the one in the run's records.
        command: the arguments of `longhaul` that run it again, as in ["run", "--config", "configs/nano.yaml"].
    """
    if recipe.notify is None:
        return
    if stage is None and run is not None and (failed := failed_stage(recipe.store, run)) is not None:
        stage = failed.stage
    send_report(recipe.notify, recipe.name, run, stage, error, shlex.join(["longhaul", *command]), log)


def send_report(
    config: NotifyConfig,
    recipe: str | None,
    run: str | None,
    stage: str | None,
    error: str,
    command: str,
    log: str | Path | None = None,
) -> bool:
    """Report a failure; returns whether that was delivered. `text` is what chats show of it."""
    summary = (
        f"Longhaul: {recipe or 'a run'} failed" + (f" at {stage}" if stage else "") + (f" (run {run})" if run else "")
    )
    message = {
        "text": f"{summary}: {error.strip().splitlines()[0] if error.strip() else 'no message'}",
        "event": "failed",
        "recipe": recipe,
        "run": run,
        "stage": stage,
        "error": error,
        "command": command,
        "log": str(log) if log else None,
        "host": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    delivered = notify(config, message)
    if delivered and (file := renamed_variable(REPORTED, "LONGHAUL_TOLD")):
        with suppress(OSError):  # then it is reported twice
            Path(file).touch()
    return delivered


def failed_stage(store: str, run: str) -> StageRecord | None:
    """The stage that a run's records say failed last, and not only at first; None where they say nothing, or cannot be
    read now."""
    try:
        last = {record.stage: record for record in records.read(open_store(store), StageRecord, f"stage-runs/{run}")}
    except (StoreError, ValueError):
        return None
    return next((record for record in reversed(last.values()) if record.failure is not None), None)
