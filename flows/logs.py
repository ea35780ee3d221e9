"""The logs that a run leaves on the machine that it runs on: of its workflow, and of each stage's engines."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from flows.home import HOME
from flows.stop import is_running
from infra.errors import LonghaulError
from infra.store.record_log import NAME

WORKFLOW = "metaflow.log"
POLL_S = 0.3
LONGEST_LINE = 4000
"""Characters of a line; engines print progress bars without ends of lines."""


class LogNotFound(LonghaulError, LookupError):
    """A run has no such log here; the message says which there are."""


def log_file(run: str, stage: str | None = None) -> Path:
    """The log of a run's workflow, or of one of its stages. Raises LogNotFound."""
    if not NAME.fullmatch(run):
        raise LogNotFound(f"{run!r} is not a run's name: `longhaul runs` lists the runs")
    folder = HOME / "runs" / run
    logs = {path.stem: path for path in sorted(folder.glob("*.log")) if path.name != WORKFLOW}
    file = folder / WORKFLOW if stage is None else logs.get(stage.replace("/", "-"))
    if file is None or not file.is_file():
        what = "no workflow's log" if stage is None else f"no log of a stage {stage!r}"
        known = f"; those of stages are: {', '.join(logs)}" if logs else ""
        raise LogNotFound(
            f"run {run} has {what} in {folder}: it ran on another machine, or reused what it needed{known}"
        )
    return file


def last_lines(file: Path, count: int | None = None) -> list[str]:
    """The last lines of a log, or all, cut to a length; none where it cannot be read."""
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            return [line.rstrip("\n")[-LONGEST_LINE:] for line in deque(lines, count)]
    except OSError:
        return []


def follow(file: Path, run: str, count: int | None = None) -> Iterator[str]:
    """The last lines of a log, or all, and then what is appended, until its run has ended and all of it was read.

    Raises OSError where the log cannot be read.
    """
    with file.open(encoding="utf-8", errors="replace") as lines:
        # From one open file: nothing is lost between what is there and what comes.
        yield from (line[-LONGEST_LINE:] for line in deque(lines, count))
        while True:
            running = is_running(run)
            while text := lines.read(1 << 16):
                yield text
            if not running:
                return
            time.sleep(POLL_S)
