"""A folder of schedules with real processes as jobs, and what they leave."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.scheduling.config import ScheduleConfig
from infra.scheduling.job import Job
from infra.scheduling.scheduler import Scheduler
from infra.scheduling.state import ScheduleFolder, ScheduleState
from infra.store.store import StoreError

ROOT = Path(__file__).parents[3]
NEVER = "0 0 29 2 *"


class World:
    """A folder of schedules, and what their jobs left."""

    def __init__(self, folder: Path) -> None:
        self.folder = ScheduleFolder(folder / "schedule")
        self.ran = folder / "ran"
        self.notified: list[tuple[str, str]] = []
        self.data = "data 1"

    def job(self, cron: str = NEVER, code: str = "", name: str = "nano", **schedule: object) -> Job:
        """A job whose process notes its start and its end around `code`."""
        note = f"open({str(self.ran)!r}, 'a').write"
        program = f"import os, signal, sys, time\n{note}('begin {name}\\n')\n{code}\n{note}('end {name}\\n')"
        return Job(
            name=name,
            config=f"{name}.yaml",
            schedule=ScheduleConfig.model_validate({"cron": cron, **schedule}),
            command=[sys.executable, "-S", "-c", program],
            digest=self._digest,
            notify=lambda error, log: self.notified.append((name, error)),
        )

    def _digest(self) -> str:
        if self.data.startswith("!"):
            raise StoreError(self.data)
        return self.data

    def keep(self, job: Job, ago: timedelta = timedelta(), **fields: object) -> None:
        """As a scheduler before has left it, `ago`."""
        with self.folder.change() as schedules:
            schedules[job.name] = ScheduleState.model_validate(
                {"config": job.config, "schedule": job.schedule, "handled_until": datetime.now(UTC) - ago, **fields}
            )

    @contextmanager
    def scheduler(self, *jobs: Job) -> Iterator[Scheduler]:
        """One at work."""
        loads: Iterator[Sequence[Job]] = iter([jobs])
        made = Scheduler(self.folder, lambda: next(loads, None))
        thread = threading.Thread(target=made.run)
        thread.start()
        try:
            wait(lambda: made._scheduler.running)
            yield made
        finally:
            made.stop()
            thread.join(20)
            assert not thread.is_alive()

    def notes(self) -> list[str]:
        return self.ran.read_text().split("\n")[:-1] if self.ran.exists() else []

    def events(self) -> list[tuple[str, str]]:
        return [(one.event, one.reason) for one in self.folder.history()]

    def ended(self, count: int = 1) -> None:
        """Wait for so many ends of runs."""
        wait(lambda: sum(event in ("succeeded", "failed", "interrupted") for event, _ in self.events()) >= count)


def wait(seen: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
