"""A machine's own scheduler: APScheduler says when, and a process of its own does the work.

Invariants. One run at a time, also when the scheduler before was killed and its run lives on. Times that came while
none could start are one run (coalesced), unless that would start later than `grace_s`: then none. A run that ended
together with its scheduler is resumed by the next one. Nothing that a run does ends the scheduler: it is a process,
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
from infra.scheduling.state import Running, ScheduleError, ScheduleFolder, ScheduleState
from infra.store.store import StoreError

POLL_S = 1.0
"""Seconds between checks of what commands request, and of the clock: it may have been set."""
SET_BACK = timedelta(minutes=1)
"""By how much a clock goes back before times are computed again; less is ordinary correction."""
ATTEMPTS = 3
"""Schedulers that one run may end together with: the run may be what ends them."""
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
    notify: Callable[[str, str], None]
    """Reports a failure that the run cannot have reported itself: the error, and the log's path."""


class _Times(BaseTrigger):
    """A schedule's times, for APScheduler."""

    def __init__(self, schedule: ScheduleConfig) -> None:
        self._cron, self._timezone = schedule.times, schedule.timezone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        return self._cron.next(self._timezone, previous_fire_time or now)


class Scheduler:
    """Runs jobs at their times, until it is stopped.

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
        self._requested: set[str] = set()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(self._on_missed, EVENT_JOB_MISSED)
        self._scheduler.add_listener(self._on_overlap, EVENT_JOB_MAX_INSTANCES)
        self._scheduler.add_listener(self._on_error, EVENT_JOB_ERROR)

    def stop(self) -> None:
        """End, and the run that is under way with it; may be called from a signal's handler."""
        self._stopping.set()

    def run(self) -> None:
        """Work until `stop`. Raises ScheduleError where another scheduler runs in the folder, and what `load`
        raises."""
        with self._exclusive():
            self._set_jobs(self._load() or ())
            for name, state in self.folder.read().items():
                if name in self._jobs and state.running is not None:
                    self._continue(name, state.running)
            self._scheduler.start()
            try:
                while not self._stopping.wait(POLL_S):
                    self._poll()
            finally:
                self._stopping.set()
                self._scheduler.shutdown(wait=True)

    @contextmanager
    def _exclusive(self) -> Any:
        for _ in range(20):  # a command that checks whether one is running holds the lock for a moment
            with self.folder.lock("scheduler.lock") as held:
                if held is not None:
                    yield
                    return
            self._stopping.wait(0.05)
        raise ScheduleError(f"another scheduler is running in {self.folder.folder}: one is enough for a machine")

    def _set_jobs(self, jobs: Sequence[Job]) -> None:
        """Make these the jobs."""
        now = datetime.now(UTC)
        names = [job.name for job in jobs]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ScheduleError(f"two recipes have the name {twice.pop()!r}: give each a `name` of its own")
        with self.folder.change() as schedules:
            for job in jobs:
                state = schedules.get(job.name)
                if state is None:
                    state = schedules[job.name] = ScheduleState(
                        config=job.config, schedule=job.schedule, handled_until=now
                    )
                if state.schedule != job.schedule or state.handled_until > now:
                    # Other times, or a clock that was ahead when the last ones were handled.
                    state.handled_until = now
                state.config, state.schedule = job.config, job.schedule
            for name in schedules.keys() - names:
                if schedules[name].running is None:
                    del schedules[name]
            states = {name: schedules[name].model_copy() for name in names}
        for name in self._jobs.keys() - names:
            self._scheduler.remove_job(name)
        self._jobs = {job.name: job for job in jobs}
        for job in jobs:
            self._due_after(job, states[job.name].handled_until, states[job.name].paused)

    def _due_after(self, job: Job, time: datetime, paused: bool) -> None:
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
            next_run_time=None if paused else trigger.get_next_fire_time(None, time),
        )

    def _request(self, name: str, reason: str) -> None:
        """Have a job run as soon as none is running."""
        self._requested.add(name)
        self._scheduler.add_job(self._work, args=[name, reason], misfire_grace_time=None)

    def _continue(self, name: str, before: Running) -> None:
        if before.attempts < ATTEMPTS:
            self._request(name, "continued")
            return
        error = f"{before.attempts} schedulers ended while it ran: it may be what ends them. Run it by hand to see"
        self.folder.add_entry(name, "given up", reason=before.reason, error=error)
        with self.folder.change_one(name) as state:
            state.running = None
        self._jobs[name].notify(error, str(self.folder.folder / "logs"))

    def _poll(self) -> None:
        """Act on what changed: files, what commands request, the clock."""
        now = datetime.now(UTC)
        try:
            jobs = self._load()
            if jobs is not None:
                self._set_jobs(jobs)
        except (ValueError, ScheduleError) as error:
            logger.error("%s\nThe schedules stay as they were.", error)
        try:
            schedules = self.folder.read()
        except ScheduleError as error:
            logger.error("%s", error)
            return
        set_back = self._latest - now > SET_BACK
        if set_back:
            logger.warning("the clock was set back from %s to %s: times are computed again", self._latest, now)
        self._latest = now if set_back else max(now, self._latest)
        for name, job in self._jobs.items():
            state = schedules.get(name)
            if state is None:
                continue
            if set_back or state.paused != self._paused[name]:
                self._due_after(job, now, state.paused)
            if state.requested and name not in self._requested:
                self._request(name, "requested")
        # APScheduler sleeps until the next time by a clock that nobody sets.
        self._scheduler.wakeup()

    def _work(self, name: str, reason: str) -> None:
        """What is done when a job is due or requested."""
        try:
            self._work_on(name, reason)
        except Exception:
            # A full disk, for instance. The request is not forgotten, and is not tried every second either.
            self._stopping.wait(RETRY_S)
            self._requested.discard(name)
            raise

    def _work_on(self, name: str, reason: str) -> None:
        job, state = self._jobs.get(name), self.folder.read().get(name)
        if job is None or state is None or self._stopping.is_set():
            return
        if (reason == "time" and state.paused) or (reason == "requested" and not state.requested):
            return  # since it was queued
        data: str | None = None
        if job.schedule.when == "data-changed":
            data = self._data_digest(job)
            if reason == "time":
                if data is None or data == state.data:
                    self._mark_handled(name)
                    return
                reason = "data"
        while not self._stopping.is_set():
            with self.folder.lock("run.lock") as held:
                if held is not None:
                    self._run(job, reason, data, held)
                    return
            # The run of a scheduler that was killed: it continues by itself.
            self._stopping.wait(POLL_S)

    def _data_digest(self, job: Job) -> str | None:
        """The digest of the data; None where they cannot be read, which is reported once."""
        try:
            digest, problem = job.digest(), None
        except StoreError as error:
            digest, problem = None, str(error)
        with self.folder.change_one(job.name) as state:
            new = problem is not None and problem != state.last_error
            state.last_error = problem
        if new:
            logger.error("%s: %s", job.name, problem)
            self.folder.add_entry(job.name, "failed", reason="data", error=problem)
            job.notify(problem or "", "")
        return digest

    def _mark_handled(self, name: str) -> None:
        with self.folder.change_one(name) as state:
            state.handled_until = datetime.now(UTC)

    def _run(self, job: Job, reason: str, data: str | None, lock: int) -> None:
        started = datetime.now(UTC)
        with self.folder.change_one(job.name) as state:
            before = state.running if reason == "continued" else None
            reason = before.reason if before else reason
            state.running = Running(reason=reason, started=started, attempts=before.attempts + 1 if before else 1)
            state.handled_until, state.requested = started, False
            state.data = data or state.data
        self._requested.discard(job.name)
        log = self.folder.folder / "logs" / f"{started:%Y%m%d-%H%M%S-%f}-{job.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        reported, named = log.with_suffix(".reported"), log.with_suffix(".named")
        described = f"{reason}, continued" if before else reason
        self.folder.add_entry(job.name, "started", reason=described, command=list(job.command))
        logger.info("%s: started (%s); log: %s", job.name, reason, log)
        with log.open("wb") as output:
            leaves = {"LONGHAUL_REPORTED_FILE": str(reported), "LONGHAUL_RUN_NAME_FILE": str(named)}
            status = self._wait_for(job.command, output, lock, leaves)
        seconds = (datetime.now(UTC) - started).total_seconds()
        run = named.read_text(encoding="utf-8") if named.exists() else None
        named.unlink(missing_ok=True)
        outcome = {"reason": reason, "seconds": seconds, "log": str(log), "run": run}
        if status != 0 and self._stopping.is_set():
            # The next scheduler resumes what is still marked as running.
            self.folder.add_entry(job.name, "interrupted", **outcome)
            return
        error = None
        if status != 0:
            ended = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
            error = f"{ended}: {_last_lines(log)}"
        with self.folder.change_one(job.name) as state:
            state.running = None
        self.folder.add_entry(job.name, "failed" if error else "succeeded", error=error, **outcome)
        logger.info(
            "%s: %s after %.0f s%s",
            job.name,
            "failed" if error else "succeeded",
            seconds,
            f": {error}" if error else "",
        )
        if error and not reported.exists():
            job.notify(error, str(log))
        reported.unlink(missing_ok=True)

    def _wait_for(self, command: Sequence[str], output: IO[bytes], lock: int, more: Mapping[str, str]) -> int:
        """Exit status of a process; once the scheduler is to stop, the process is requested to end, then killed."""
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

    def _on_missed(self, event: JobExecutionEvent) -> None:
        name, time = event.job_id, event.scheduled_run_time
        if name not in self._jobs:
            return
        with self.folder.change_one(name) as state:
            state.handled_until = max(state.handled_until, time.astimezone(UTC))
        late = f"{time:%Y-%m-%d %H:%M} UTC was missed by more than {self._jobs[name].schedule.grace_s:g} s"
        self.folder.add_entry(name, "missed", reason="time", error=late)
        logger.warning("%s: %s", name, late)

    def _on_overlap(self, event: JobSubmissionEvent) -> None:
        name = event.job_id
        if name in self._jobs and self._jobs[name].schedule.when == "always":
            self.folder.add_entry(name, "skipped", reason="time", error="the run before is not done")
            logger.warning("%s: due, and the run before is not done: skipped", name)

    def _on_error(self, event: JobExecutionEvent) -> None:
        """The scheduler's own work failed, on a full disk for instance: log it, and continue."""
        logger.error("%s: %s: %s\n%s", event.job_id, type(event.exception).__name__, event.exception, event.traceback)


def _last_lines(log: Path) -> str:
    """How a run's output ends."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-LAST_LINES:]) or "it printed nothing"
