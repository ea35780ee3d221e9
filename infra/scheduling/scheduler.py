"""A machine's own scheduler: APScheduler says when, and a process of its own does the work.

Invariants. One run at a time, also when the scheduler before was killed and its run lives on. Times that came while
none could start are one run (coalesced), unless that would start later than `grace_s`: then none. A run that ended
together with its scheduler goes on under the next one. Nothing that a run does ends the scheduler: it is a process,
whose exit status counts.
"""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    JobExecutionEvent,
    JobSubmissionEvent,
)
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from infra.scheduling.config import ScheduleConfig
from infra.scheduling.state import Kept, Running, ScheduleError, ScheduleFolder
from infra.store.store import StoreError

POLL_S = 1.0
"""Seconds between looks at what commands ask for, and at the clock: it may have been set."""
SET_BACK = timedelta(minutes=1)
"""By how much a clock goes back before its times are taken anew; less is how clocks are kept right."""
ATTEMPTS = 3
"""Schedulers that one run may end together with: it may be what ends them."""
PATIENCE_S = 30.0
"""Seconds that a run has to end by itself; a run of the chain takes ten for that."""
RETRY_S = 60.0
"""Seconds before the scheduler's own work is tried again, where that failed."""
LAST_LINES = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A schedule with what it runs."""

    name: str
    config: str
    """The file that says so."""
    schedule: ScheduleConfig
    command: Sequence[str]
    digest: Callable[[], str]
    """The digest of the data; raises StoreError where they cannot be read."""
    tell: Callable[[str, str], None]
    """Tells someone of a failure that the run cannot have told of itself: the error, and the log's path."""


class _Times(BaseTrigger):
    """A schedule's times, for APScheduler."""

    def __init__(self, schedule: ScheduleConfig) -> None:
        self._cron, self._timezone = schedule.times, schedule.timezone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        return self._cron.next(self._timezone, previous_fire_time or now)


class Scheduler:
    """Runs jobs at their times, until it is told to stop.

    Args:
        load: the jobs as their files have them now, or None where nothing changed since the last call. Raises
            ValueError for a file that is refused; what was there before then stays.
    """

    def __init__(self, folder: ScheduleFolder, load: Callable[[], Sequence[Job] | None]) -> None:
        self.folder = folder
        self._load = load
        self._jobs: dict[str, Job] = {}
        self._stopping = threading.Event()
        self._latest = datetime.now(UTC)
        self._paused: dict[str, bool] = {}
        self._asked: set[str] = set()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(self._missed, EVENT_JOB_MISSED)
        self._scheduler.add_listener(self._still_at_it, EVENT_JOB_MAX_INSTANCES)
        self._scheduler.add_listener(self._broke, EVENT_JOB_ERROR)

    def stop(self) -> None:
        """End, and the run that is under way with it; may be called from a signal's handler."""
        self._stopping.set()

    def run(self) -> None:
        """Work until `stop`. Raises ScheduleError where another scheduler is at work in the folder, and what `load`
        raises."""
        with self._alone():
            self._take(self._load() or ())
            for name, kept in self.folder.read().items():
                if name in self._jobs and kept.running is not None:
                    self._go_on(name, kept.running)
            self._scheduler.start()
            try:
                while not self._stopping.wait(POLL_S):
                    self._poll()
            finally:
                self._stopping.set()
                self._scheduler.shutdown(wait=True)

    @contextmanager
    def _alone(self) -> Any:
        for _ in range(20):  # a command that asks whether one is at work holds the lock for a moment
            with self.folder.lock("scheduler.lock") as held:
                if held is not None:
                    yield
                    return
            self._stopping.wait(0.05)
        raise ScheduleError(f"another scheduler is at work in {self.folder.folder}: one is enough for a machine")

    def _take(self, jobs: Sequence[Job]) -> None:
        """Make these the jobs."""
        now = datetime.now(UTC)
        names = [job.name for job in jobs]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ScheduleError(f"two recipes have the name {twice.pop()!r}: give each a `name` of its own")
        with self.folder.change() as schedules:
            for job in jobs:
                kept = schedules.get(job.name)
                if kept is None:
                    kept = schedules[job.name] = Kept(config=job.config, schedule=job.schedule, since=now)
                if kept.schedule != job.schedule or kept.since > now:
                    # Other times, or a clock that was ahead when the last ones were dealt with.
                    kept.since = now
                kept.config, kept.schedule = job.config, job.schedule
            for name in schedules.keys() - names:
                if schedules[name].running is None:
                    del schedules[name]
            kept_now = {name: schedules[name].model_copy() for name in names}
        for name in self._jobs.keys() - names:
            self._scheduler.remove_job(name)
        self._jobs = {job.name: job for job in jobs}
        for job in jobs:
            self._due_after(job, kept_now[job.name].since, kept_now[job.name].paused)

    def _due_after(self, job: Job, since: datetime, paused: bool) -> None:
        """Have a job run at its first time after one, which may be past."""
        self._paused[job.name] = paused
        trigger = _Times(job.schedule)
        self._scheduler.add_job(
            self._work,
            trigger,
            args=[job.name, "time"],
            id=job.name,
            replace_existing=True,
            misfire_grace_time=max(1, round(job.schedule.grace_s)),
            next_run_time=None if paused else trigger.get_next_fire_time(None, since),
        )

    def _ask(self, name: str, why: str) -> None:
        """Have a job run as soon as none is running."""
        self._asked.add(name)
        self._scheduler.add_job(self._work, args=[name, why], misfire_grace_time=None)

    def _go_on(self, name: str, before: Running) -> None:
        if before.attempts < ATTEMPTS:
            self._ask(name, "goes on")
            return
        error = f"{before.attempts} schedulers ended while it ran: it may be what ends them. Run it by hand to see"
        self.folder.tell(name, "given up", why=before.why, error=error)
        with self.folder.change_one(name) as kept:
            kept.running = None
        self._jobs[name].tell(error, str(self.folder.folder / "logs"))

    def _poll(self) -> None:
        """Take up what changed: files, what commands ask for, the clock."""
        now = datetime.now(UTC)
        try:
            jobs = self._load()
            if jobs is not None:
                self._take(jobs)
        except (ValueError, ScheduleError) as error:
            logger.error("%s\nThe schedules stay as they were.", error)
        try:
            schedules = self.folder.read()
        except ScheduleError as error:
            logger.error("%s", error)
            return
        set_back = self._latest - now > SET_BACK
        if set_back:
            logger.warning("the clock was set back from %s to %s: times are taken anew", self._latest, now)
        self._latest = now if set_back else max(now, self._latest)
        for name, job in self._jobs.items():
            kept = schedules.get(name)
            if kept is None:
                continue
            if set_back or kept.paused != self._paused[name]:
                self._due_after(job, now, kept.paused)
            if kept.asked and name not in self._asked:
                self._ask(name, "asked for")
        # APScheduler sleeps until the next time by a clock that nobody sets.
        self._scheduler.wakeup()

    def _work(self, name: str, why: str) -> None:
        """What is done when a job is due or asked for."""
        try:
            self._work_on(name, why)
        except Exception:
            # A full disk, for instance. Who asked is not forgotten, and is not tried every second either.
            self._stopping.wait(RETRY_S)
            self._asked.discard(name)
            raise

    def _work_on(self, name: str, why: str) -> None:
        job, kept = self._jobs.get(name), self.folder.read().get(name)
        if job is None or kept is None or self._stopping.is_set():
            return
        if (why == "time" and kept.paused) or (why == "asked for" and not kept.asked):
            return  # so since it was put in line
        data: str | None = None
        if job.schedule.when == "data-changed":
            data = self._data(job)
            if why == "time":
                if data is None or data == kept.data:
                    self._deal_with_times(name)
                    return
                why = "data"
        while not self._stopping.is_set():
            with self.folder.lock("run.lock") as held:
                if held is not None:
                    self._run(job, why, data, held)
                    return
            # The run of a scheduler that was killed: it goes on by itself.
            self._stopping.wait(POLL_S)

    def _data(self, job: Job) -> str | None:
        """The digest of the data; None where they cannot be read, which is told once."""
        try:
            digest, trouble = job.digest(), None
        except StoreError as error:
            digest, trouble = None, str(error)
        with self.folder.change_one(job.name) as kept:
            new = trouble is not None and trouble != kept.trouble
            kept.trouble = trouble
        if new:
            logger.error("%s: %s", job.name, trouble)
            self.folder.tell(job.name, "failed", why="data", error=trouble)
            job.tell(trouble or "", "")
        return digest

    def _deal_with_times(self, name: str) -> None:
        with self.folder.change_one(name) as kept:
            kept.since = datetime.now(UTC)

    def _run(self, job: Job, why: str, data: str | None, lock: int) -> None:
        started = datetime.now(UTC)
        with self.folder.change_one(job.name) as kept:
            before = kept.running if why == "goes on" else None
            why = before.why if before else why
            kept.running = Running(why=why, started=started, attempts=before.attempts + 1 if before else 1)
            kept.since, kept.asked = started, False
            kept.data = data or kept.data
        self._asked.discard(job.name)
        log = self.folder.folder / "logs" / f"{started:%Y%m%d-%H%M%S-%f}-{job.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        told, named = log.with_suffix(".told"), log.with_suffix(".named")
        self.folder.tell(job.name, "started", why=f"{why}, goes on" if before else why, command=list(job.command))
        logger.info("%s: started (%s); log: %s", job.name, why, log)
        with log.open("wb") as output:
            leaves = {"LONGHAUL_REPORTED_FILE": str(told), "LONGHAUL_RUN_NAME_FILE": str(named)}
            status = self._wait_for(job.command, output, lock, leaves)
        seconds = (datetime.now(UTC) - started).total_seconds()
        run = named.read_text(encoding="utf-8") if named.exists() else None
        named.unlink(missing_ok=True)
        outcome = {"why": why, "seconds": seconds, "log": str(log), "run": run}
        if status != 0 and self._stopping.is_set():
            # What is kept as running goes on under the next scheduler.
            self.folder.tell(job.name, "interrupted", **outcome)
            return
        error = None
        if status != 0:
            ended = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
            error = f"{ended}: {_last_lines(log)}"
        with self.folder.change_one(job.name) as kept:
            kept.running = None
        self.folder.tell(job.name, "failed" if error else "succeeded", error=error, **outcome)
        logger.info(
            "%s: %s after %.0f s%s",
            job.name,
            "failed" if error else "succeeded",
            seconds,
            f": {error}" if error else "",
        )
        if error and not told.exists():
            job.tell(error, str(log))
        told.unlink(missing_ok=True)

    def _wait_for(self, command: Sequence[str], output: IO[bytes], lock: int, more: Mapping[str, str]) -> int:
        """Exit status of a process; once the scheduler is to stop, the process is asked to end, and made to."""
        try:
            # A session of its own: a terminal's Ctrl-C reaches it once, through us. It inherits the lock.
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **more},
                start_new_session=True,
                pass_fds=[lock],
            )
        except OSError as error:
            output.write(f"{command[0]} cannot be started: {error}\n".encode())
            return 127
        while True:
            try:
                return child.wait(0.1)
            except subprocess.TimeoutExpired:
                if not self._stopping.is_set():
                    continue
            child.send_signal(signal.SIGTERM)
            try:
                return child.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                return child.wait()

    def _missed(self, event: JobExecutionEvent) -> None:
        name, time = event.job_id, event.scheduled_run_time
        if name not in self._jobs:
            return
        with self.folder.change_one(name) as kept:
            kept.since = max(kept.since, time.astimezone(UTC))
        late = f"{time:%Y-%m-%d %H:%M} UTC was missed by more than {self._jobs[name].schedule.grace_s:g} s"
        self.folder.tell(name, "missed", why="time", error=late)
        logger.warning("%s: %s", name, late)

    def _still_at_it(self, event: JobSubmissionEvent) -> None:
        name = event.job_id
        if name in self._jobs and self._jobs[name].schedule.when == "always":
            self.folder.tell(name, "skipped", why="time", error="the run before is not done")
            logger.warning("%s: due, and the run before is not done: skipped", name)

    def _broke(self, event: JobExecutionEvent) -> None:
        """The scheduler's own work failed, on a full disk for instance: say so, and go on."""
        logger.error("%s: %s: %s\n%s", event.job_id, type(event.exception).__name__, event.exception, event.traceback)


def _last_lines(log: Path) -> str:
    """How a run's output ends."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-LAST_LINES:]) or "it printed nothing"
