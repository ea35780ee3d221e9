"""Ending a run of this machine from outside: as by Ctrl-C in its terminal."""

import fcntl
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from flows.guard import PATIENCE_S
from flows.home import HOME
from infra.errors import LonghaulError
from infra.store.record_log import NAME

STOP_SECONDS = 2 * PATIENCE_S + 15
"""How long a run may take to end: its parts are killed after PATIENCE_S."""


class NotRunning(LonghaulError, LookupError):
    """There is nothing to stop; the message says why."""


def stop_run(run: str, seconds: float = STOP_SECONDS) -> None:
    """Have a run end, and wait until it has: what it finished is kept, and it is recorded as interrupted.

    Args:
        seconds: how long to wait.

    Raises NotRunning for a run that no process of this machine runs, and TimeoutError if it does not end.
    """
    if not NAME.fullmatch(run):
        raise NotRunning(f"{run!r} is not a run's name: `longhaul runs` lists the runs")
    lock = HOME / "runs" / run / "lock"
    if not is_running(run):
        raise NotRunning(f"run {run} is not running on this machine: `longhaul show {run}` says how it ended")
    process = _process(lock)
    if process is None:
        raise NotRunning(f"run {run} was started by another version of Longhaul, or is ending: stop it in its terminal")
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
    until = time.monotonic() + seconds
    while is_running(run):
        if time.monotonic() > until:
            raise TimeoutError(f"run {run} (process {process}) was asked to end and has not within {seconds:.0f} s")
        time.sleep(0.1)


def is_running(run: str) -> bool:
    """Whether a process of this machine runs it: the run's lock is held."""
    try:
        with (HOME / "runs" / run / "lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def identity(process: int) -> str:
    """A process's number with when it started, which no later one with the same number has."""
    with open(f"/proc/{process}/stat", "rb") as file:
        return f"{process} {file.read().rpartition(b')')[2].split()[19].decode()}"


def _process(lock: Path) -> int | None:
    """The process of `longhaul run`, by its lock; None where it is gone."""
    try:
        line = lock.read_text().splitlines()[1]
        process = int(line.split()[0])
        return process if identity(process) == line else None
    except (OSError, IndexError, ValueError):
        return None
