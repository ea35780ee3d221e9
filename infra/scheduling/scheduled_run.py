"""A run that a scheduler starts: its process, its log and how it ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

PATIENCE_S = 30.0
"""Seconds that a run has to end by itself; a run of the chain takes ten for that."""
LAST_LINES = 5
SUPERVISOR = Path(__file__).with_name("supervisor.py")


class Ending(BaseModel):
    """How a run ended (infra/scheduling/supervisor.py writes it)."""

    model_config = ConfigDict(extra="forbid")

    status: int
    """Exit status; negative for a signal."""
    ended: float
    """Seconds since 1970."""
    stopped: bool
    """It was requested to end."""


class ScheduledRun:
    """The files of one run, which lie beside its log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._status, self._reported, self._named = (
            log.with_suffix(suffix) for suffix in (".status", ".reported", ".named")
        )

    def run(self, command: Sequence[str], lock: int, started: Callable[[int], None], stop: Callable[[], bool]) -> int:
        """Run a command and return its exit status, negative for a signal. Once `stop()` holds it is requested to end,
        then killed.

        Args:
            lock: a descriptor that the run inherits, and with it the lock.
            started: takes the process id.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            # A session of its own: a terminal's Ctrl-C reaches it once, through us.
            child = subprocess.Popen(
                [sys.executable, "-S", "-E", str(SUPERVISOR), str(self._status), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "LONGHAUL_REPORTED_FILE": str(self._reported),
                    "LONGHAUL_RUN_NAME_FILE": str(self._named),
                },
                start_new_session=True,
                pass_fds=[lock],
            )
        started(child.pid)
        while True:
            try:
                return child.wait(0.1)
            except subprocess.TimeoutExpired:
                if not stop():
                    continue
            child.send_signal(signal.SIGTERM)
            try:
                return child.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                return child.wait()

    def end(self, process: int) -> None:
        """Request the end of a run that another scheduler started, if the process is still that run's."""
        with suppress(OSError):
            if str(self._status).encode() in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0"):
                os.kill(process, signal.SIGTERM)

    @property
    def ending(self) -> Ending | None:
        """How it ended; None while it runs, and where it was killed together with its supervisor."""
        with suppress(OSError, ValidationError):
            return Ending.model_validate_json(self._status.read_bytes())
        return None

    @property
    def name(self) -> str | None:
        """The run's name, where it has said it."""
        with suppress(OSError):
            return self._named.read_text(encoding="utf-8")
        return None

    @property
    def reported(self) -> bool:
        """Whether the run has reported its failure itself."""
        return self._reported.exists()

    def error(self, status: int) -> str | None:
        """What went wrong, with how its output ends; None where nothing did."""
        if status == 0:
            return None
        ended = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        return f"{ended}: {self._last_lines()}"

    def seconds(self, started: datetime) -> float:
        """From a start to the end, or to now."""
        ending = self.ending
        end = datetime.fromtimestamp(ending.ended, UTC) if ending else datetime.now(UTC)
        return max(0.0, (end - started).total_seconds())

    def clean(self) -> None:
        """Remove the files beside the log."""
        for path in (self._status, self._reported, self._named):
            path.unlink(missing_ok=True)

    def _last_lines(self) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        except OSError as error:
            return f"its log cannot be read: {error}"
        return "\n".join(lines[-LAST_LINES:]) or "it printed nothing"
