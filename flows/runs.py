"""Runs: recording that one started and how it ended."""

import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from infra.environment import renamed_variable
from infra.store import records
from infra.store.records import RunRecord
from infra.store.store import Store

RUN_NAME_FILE = "LONGHAUL_RUN_NAME_FILE"
"""Names a file in which a run leaves its name, for the scheduler that started it."""


def new_run_name(recipe: str, *more: str) -> str:
    """A name for a run of a recipe that begins now, unlike that of any other run on any machine: time, recipe, and four
    digits at random. Names sort by time."""
    return "-".join([f"{datetime.now(UTC):%Y%m%d-%H%M%S}", recipe, *more, secrets.token_hex(2)])


def leave_name(run: str) -> None:
    """Leave the run's name for the scheduler, where one started this process."""
    if file := renamed_variable(RUN_NAME_FILE, "LONGHAUL_NAMED"):
        with suppress(OSError):  # then the history has no name
            Path(file).write_text(run, encoding="utf-8")


def start_run(store: Store, run: str, recipe: dict[str, Any], command: Sequence[str]) -> None:
    """Record that a run started: with which recipe, and what was asked for."""
    record = RunRecord(run=run, event="started", time=_now(), recipe=recipe, command=list(command))
    records.write(store, f"runs/{run}", record)


def end_run(
    store: Store, run: str, status: Literal["succeeded", "failed", "interrupted"], error: str | None = None
) -> None:
    """Record how a run ended."""
    records.write(store, f"runs/{run}", RunRecord(run=run, event="ended", time=_now(), status=status, error=error))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
