"""Runs: recording that one started and how it ended."""

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from infra.store import records
from infra.store.records import RunRecord
from infra.store.store import Store

NAMED = "LONGHAUL_NAMED"
"""Names a file in which a run leaves its name, for the scheduler that started it."""


def leave_name(run: str) -> None:
    """Tell the scheduler, where one started this process, under which name it runs."""
    if NAMED in os.environ:
        with suppress(OSError):  # then the history has no name
            Path(os.environ[NAMED]).write_text(run, encoding="utf-8")


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
