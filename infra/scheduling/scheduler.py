"""A machine's own scheduler: APScheduler says when, and a process of its own does the work.

Invariants. One run at a time, also when the scheduler before was killed and its run lives on. Times that came while
none could start are one run (coalesced), unless that would start later than `grace_s`: then none. A time that comes
while the schedule's own run is on, or is to be resumed, is dealt with by the policy `overlap`. A run that ended
together with its scheduler is resumed by the next one; of one that outlived its scheduler, the next one records the
end. Nothing that a run does ends the scheduler: it is a process, whose exit status counts.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from infra.scheduling.job import Job, JobTimes
from infra.scheduling.scheduled_run import ScheduledRun
from infra.scheduling.state import Running, ScheduleError, ScheduleFolder, ScheduleState
from infra.store.store import StoreError

POLL_S = 1.0
"""Seconds between checks of what commands request, and of the clock: it may have been set."""
SET_BACK = timedelta(minutes=1)
"""By how much a clock goes back before times are computed again; less is ordinary correction."""
ATTEMPTS = 3
"""Starts of one run whose end no scheduler sees: the run may be what ends them."""
RETRY_S = 60.0
"""Seconds before the scheduler's own work is tried again, where that failed."""
WAITING = "waiting: "
"""Before a schedule's name, what APScheduler calls its run that waits for its turn."""
FIRST = datetime(1970, 1, 1, tzinfo=UTC)
"""A date that comes before all that is due."""

logger = logging.getLogger(__name__)


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
        self._queued: set[str] = set()
        """Schedules of which a run waits for its turn because of their times."""
        self._replaced: set[str] = set()
        """Schedules whose run is to end, for another to take its place."""
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            # Runs take turns in the first; what is due is looked at in the second, also while one is on.
            executors={"default": ThreadPoolExecutor(1), "due": ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(self._on_missed, EVENT_JOB_MISSED)
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
                if name in self._jobs and state.running is not None and not self._settled(name, state.running):
                    self._request(name, "continued")
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
        trigger = JobTimes(job.schedule)
        self._scheduler.add_job(
            self._due,
            trigger,
            args=[job.name],
            id=job.name,
            executor="due",
            replace_existing=True,
            misfire_grace_time=max(1, round(job.schedule.grace_s)),
            next_run_time=None if paused else trigger.get_next_fire_time(None, time),
        )

    def _request(self, name: str, reason: str) -> None:
        """Have a job run as soon as none is running."""
        self._requested.add(name)
        # One that was interrupted comes before those that were missed meanwhile.
        date = FIRST if reason == "continued" else None
        self._scheduler.add_job(self._work, "date", args=[name, reason], run_date=date, misfire_grace_time=None)

    def _due(self, name: str) -> None:
        """A schedule's time has come: have it run, or do what its policy says while its own run is on."""
        job, state = self._jobs.get(name), self.folder.read().get(name)
        if job is None or state is None or state.paused or self._stopping.is_set():
            return
        policy, looks = job.schedule.overlap, job.schedule.when == "data-changed"
        grace: int | None = max(1, round(job.schedule.grace_s))
        if state.running is not None or name in self._queued:
            if looks and policy == "replace" and name not in self._queued:
                data = self._data_digest(job)
                if data is None or data == state.data:
                    return
            elif looks:
                return  # the next look sees what has changed by then
            if policy == "skip" or name in self._queued:
                self._mark_handled(name)
                self.folder.add_entry(name, "skipped", reason="time", error="the run before is not done")
                logger.warning("%s: due, and the run before is not done: skipped", name)
                return
            if policy == "replace":
                self._replaced.add(name)
            else:
                self.folder.add_entry(name, "queued", reason="time", error="the run before is not done")
                logger.info("%s: due, and the run before is not done: queued", name)
            grace = None
        self._queued.add(name)
        self._scheduler.add_job(
            self._work,
            "date",
            args=[name, "time"],
            id=f"{WAITING}{name}",
            replace_existing=True,
            misfire_grace_time=grace,
            max_instances=2,  # the run that is on may be one of these, too
        )

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
        """What is done when a job is due or requested, and it is its turn."""
        try:
            ran = self._work_on(name, reason)
        except Exception:
            # A full disk, for instance. The request is not forgotten, and is not tried every second either.
            self._stopping.wait(RETRY_S)
            self._requested.discard(name)
            self._queued.discard(name)
            self._request(name, "continued")  # what is marked as running without a process would hold up its schedule
            raise
        if reason == "time" and not ran:
            self._queued.discard(name)

    def _work_on(self, name: str, reason: str) -> bool:
        """Returns whether a run was started."""
        job, state = self._jobs.get(name), self.folder.read().get(name)
        if job is None or state is None or self._stopping.is_set():
            return False
        if (reason == "time" and state.paused) or (reason == "requested" and not state.requested):
            return False  # since it was queued
        if reason == "continued":
            self._resume(job)
            return True
        data: str | None = None
        if job.schedule.when == "data-changed":
            data = self._data_digest(job)
            if reason == "time":
                if data is None or data == state.data:
                    self._mark_handled(name)
                    return False
                reason = "data"
        while not self._stopping.is_set():
            with self.folder.lock("run.lock") as held:
                if held is not None:
                    self._run(job, reason, data, held)
                    return True
            self._stopping.wait(POLL_S)
        return False

    def _resume(self, job: Job) -> None:
        """Wait for the run of a scheduler that was killed, as long as it continues by itself, and record its end; one
        that ended with its scheduler is started again."""
        self._requested.discard(job.name)
        before = self.folder.read()[job.name].running
        while before is not None and not self._stopping.is_set():
            with self.folder.lock("run.lock") as held:
                if held is not None:
                    if not self._settled(job.name, before, held):
                        self._run_again(job, before, held)
                    return
            if job.name in self._replaced and before.log and before.process:
                ScheduledRun(Path(before.log)).end(before.process)
            self._stopping.wait(POLL_S)

    def _run_again(self, job: Job, before: Running, lock: int) -> None:
        if before.attempts < ATTEMPTS:
            self._run(job, before.reason, None, lock, before.attempts)
            return
        error = f"it was started {before.attempts} times, and no scheduler saw it end: run it by hand to see why"
        self.folder.add_entry(job.name, "given up", reason=before.reason, error=error)
        self._mark_done(job.name)
        job.notify(error, str(self.folder.folder / "logs"))

    def _settled(self, name: str, before: Running, held: int | None = None) -> bool:
        """Record the end of a run whose scheduler did not see it; whether nothing is left to resume.

        `held` is the lock of runs, where it is held already.
        """
        if held is None:
            with self.folder.lock("run.lock") as own:
                return own is not None and self._settled(name, before, own)
        if before.log is None:
            return False
        run, replaced = ScheduledRun(Path(before.log)), name in self._replaced
        ending = run.ending
        if ending is not None and (ending.status == 0 or not ending.stopped):
            self._ended(self._jobs[name], run, before, ending.status)
            return True
        outcome = {"seconds": run.seconds(before.started) if ending else None, "run": run.name, "log": before.log}
        self.folder.add_entry(name, "replaced" if replaced else "interrupted", reason=before.reason, **outcome)
        run.clean()
        self._replaced.discard(name)
        with self.folder.change_one(name) as state:
            # Without its log it is one whose end was seen.
            state.running = None if replaced else before.model_copy(update={"log": None, "process": None})
        return replaced

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

    def _mark_done(self, name: str) -> None:
        with self.folder.change_one(name) as state:
            state.running = None

    def _run(self, job: Job, reason: str, data: str | None, lock: int, attempts: int = 0) -> None:
        """Run a job; `attempts` is how many schedulers have tried this run before."""
        self._replaced.discard(job.name)  # that was about a run before
        started = datetime.now(UTC)
        run = ScheduledRun(self.folder.folder / "logs" / f"{started:%Y%m%d-%H%M%S-%f}-{job.name}.log")
        running = Running(reason=reason, started=started, attempts=attempts + 1, log=str(run.log))
        with self.folder.change_one(job.name) as state:
            state.running, state.requested = running, False
            if not attempts:
                state.handled_until = started
            state.data = data or state.data
        self._requested.discard(job.name)
        if reason in ("time", "data"):
            self._queued.discard(job.name)
        described = f"{reason}, continued" if attempts else reason
        self.folder.add_entry(job.name, "started", reason=described, command=list(job.command))
        logger.info("%s: started (%s); log: %s", job.name, reason, run.log)

        def note_process(number: int) -> None:
            with self.folder.change_one(job.name) as state:
                state.running = running.model_copy(update={"process": number})

        status = run.run(job.command, lock, note_process, lambda: self._stopping.is_set() or job.name in self._replaced)
        if status != 0 and job.name in self._replaced:
            self.folder.add_entry(job.name, "replaced", reason=reason, **self._outcome(run, running))
            self._replaced.discard(job.name)
            self._mark_done(job.name)
        elif status != 0 and self._stopping.is_set():
            # The next scheduler resumes what is still marked as running.
            self.folder.add_entry(job.name, "interrupted", reason=reason, **self._outcome(run, running))
            with self.folder.change_one(job.name) as state:
                state.running = running.model_copy(update={"log": None})
        else:
            self._replaced.discard(job.name)
            self._ended(job, run, running, status)
            return
        run.clean()

    def _outcome(self, run: ScheduledRun, running: Running) -> dict[str, Any]:
        return {"seconds": run.seconds(running.started), "log": str(run.log), "run": run.name}

    def _ended(self, job: Job, run: ScheduledRun, running: Running, status: int) -> None:
        """Record how a run ended, and report a failure that it did not report itself."""
        error, outcome = run.error(status), self._outcome(run, running)
        event = "failed" if error else "succeeded"
        self._mark_done(job.name)
        self.folder.add_entry(
            job.name, "failed" if error else "succeeded", reason=running.reason, error=error, **outcome
        )
        logger.info("%s: %s after %.0f s%s", job.name, event, outcome["seconds"], f": {error}" if error else "")
        if error and not run.reported:
            job.notify(error, str(run.log))
        run.clean()

    def _on_missed(self, event: JobExecutionEvent) -> None:
        name, time = event.job_id.removeprefix(WAITING), event.scheduled_run_time
        self._queued.discard(name)
        if name not in self._jobs:
            return
        with self.folder.change_one(name) as state:
            state.handled_until = max(state.handled_until, time.astimezone(UTC))
        late = f"{time:%Y-%m-%d %H:%M} UTC was missed by more than {self._jobs[name].schedule.grace_s:g} s"
        self.folder.add_entry(name, "missed", reason="time", error=late)
        logger.warning("%s: %s", name, late)

    def _on_error(self, event: JobExecutionEvent) -> None:
        """The scheduler's own work failed, on a full disk for instance: log it, and continue."""
        logger.error("%s: %s: %s\n%s", event.job_id, type(event.exception).__name__, event.exception, event.traceback)
