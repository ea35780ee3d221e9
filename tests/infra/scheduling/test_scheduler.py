"""The scheduler, with real processes: one at a time, through restarts and kills, and what it says that it did."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.scheduling.config import ScheduleConfig
from infra.scheduling.job import Job
from infra.scheduling.scheduler import ATTEMPTS, Scheduler
from infra.scheduling.state import Running, ScheduleError, ScheduleFolder, ScheduleState
from infra.store.store import StoreError

ROOT = Path(__file__).parents[3]
NEVER = "0 0 29 2 *"


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.scheduling.scheduler.POLL_S", 0.02)


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


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_times_that_came_while_no_scheduler_was_running_are_one_run(world: World) -> None:
    job = world.job("* * * * *")
    world.keep(job, ago=timedelta(minutes=20))
    with world.scheduler(job):
        world.ended()
        time.sleep(0.2)
        assert world.folder.read()["nano"].handled_until > datetime.now(UTC) - timedelta(minutes=1)
    assert world.events() == [("started", "time"), ("succeeded", "time")]
    with world.scheduler(job):
        time.sleep(0.2)
    assert world.notes() == ["begin nano", "end nano"], "what is dealt with must not run after a restart"


def test_a_time_that_was_missed_by_more_than_its_grace_is_left_out_and_said(world: World) -> None:
    two_hours_ago = datetime.now(UTC) - timedelta(hours=2)
    job = world.job(f"{two_hours_ago.minute} {two_hours_ago.hour} * * *", grace_s=60)
    world.keep(job, ago=timedelta(hours=3))
    with world.scheduler(job):
        wait(world.events)
    assert world.events() == [("missed", "time")]
    assert not world.notes()


def test_nothing_that_a_run_does_ends_the_scheduler_and_every_failure_is_notified(world: World) -> None:
    codes = {
        "exits": "print('ValueError: no'); sys.exit(3)",
        "killed": "os.kill(os.getpid(), signal.SIGKILL)",
        "named": "open(os.environ['LONGHAUL_RUN_NAME_FILE'], 'w').write('20260101-named'); sys.exit(1)",
        "tells": "open(os.environ['LONGHAUL_REPORTED_FILE'], 'w'); sys.exit(1)",
    }
    jobs = [world.job(code=code, name=name) for name, code in codes.items()]
    jobs.append(Job("absent", "absent.yaml", jobs[0].schedule, ["/no/such/command"], world._digest, jobs[0].notify))
    for job in jobs:
        world.keep(job, requested=True)
    with world.scheduler(*jobs):
        world.ended(5)
        with world.folder.change_one("exits") as state:
            state.requested = True
        world.ended(6)
    errors = {one.schedule: one.error or "" for one in world.folder.history() if one.event == "failed"}
    assert {one.run for one in world.folder.history() if one.schedule == "named"} == {None, "20260101-named"}
    assert errors["exits"] == "exit status 3: ValueError: no"
    assert errors["killed"].startswith("killed by signal 9")
    assert "/no/such/command cannot be started" in errors["absent"]
    names = [error.split(":")[0] for _, error in world.notified]
    assert names.count("exit status 3") == 2 and "killed by signal 9" in names
    assert names.count("exit status 1") == 1, "a run that notified someone itself must not be reported twice"
    assert all(state.running is None for state in world.folder.read().values())


def test_one_runs_at_a_time(world: World) -> None:
    jobs = [world.job(code="time.sleep(0.15)", name=name) for name in ("a", "b", "c")]
    for job in jobs:
        world.keep(job, requested=True)
    with world.scheduler(*jobs):
        world.ended(3)
    notes = world.notes()
    assert [note.split()[0] for note in notes] == ["begin", "end"] * 3
    assert all(notes[i].split()[1] == notes[i + 1].split()[1] for i in (0, 2, 4))


def test_stopping_ends_the_run_and_the_next_scheduler_continues_it(world: World) -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: (print('asked to end'), sys.exit(1)))\ntime.sleep(60)"
    job = world.job(code=code)
    world.keep(job, requested=True)
    with world.scheduler(job):
        wait(world.notes)
        time.sleep(0.1)
    assert world.events() == [("started", "requested"), ("interrupted", "requested")]
    assert "asked to end" in Path(world.folder.history()[-1].log or "").read_text()
    assert world.folder.read()["nano"].running is not None
    assert not world.notified, "stopping is not a failure"
    assert world.folder.states() == {"nano": "interrupted"}, "nothing runs without a scheduler"
    with world.scheduler(world.job()):
        world.ended(2)
    assert world.events()[2:] == [("started", "requested, continued"), ("succeeded", "requested")]
    assert world.folder.read()["nano"].running is None


def test_a_run_that_succeeds_though_it_was_to_end_is_done(world: World) -> None:
    job, log = world.job(), world.folder.folder / "logs" / "before.log"
    ending = {"status": 0, "ended": time.time(), "stopped": True}
    world.keep(job, running=Running(reason="time", started=datetime.now(UTC), log=str(log)).model_dump())
    log.parent.mkdir()
    log.with_suffix(".status").write_text(json.dumps(ending))
    with world.scheduler(job):
        pass
    assert world.events() == [("succeeded", "time")] and not world.notes()


@pytest.mark.parametrize("policy", ["skip", "queue", "replace"])
def test_a_time_that_was_missed_beside_an_interrupted_run_goes_by_the_policy(world: World, policy: str) -> None:
    job = world.job("0 0 1 1 *", overlap=policy, grace_s=10**9)
    long_ago, log = datetime.now(UTC) - timedelta(days=400), world.folder.folder / "logs" / "before.log"
    running = Running(reason="requested", started=long_ago, log=str(log)).model_dump()
    world.keep(job, ago=timedelta(days=400), running=running)
    with world.scheduler(job):
        last = "requested" if policy == "skip" else "time"
        wait(lambda: ("succeeded", last) in world.events())
        time.sleep(0.2)
    continued = [("interrupted", "requested"), ("started", "requested, continued"), ("succeeded", "requested")]
    missed = [("started", "time"), ("succeeded", "time")]
    if policy == "replace":
        assert world.events()[-2:] == missed
    else:
        events = [one for one in world.events() if one[0] not in ("skipped", "queued")]
        assert events == (continued if policy == "skip" else continued + missed)
        assert ({"skip": "skipped", "queue": "queued"}[policy], "time") in world.events()
    assert world.folder.read()["nano"].running is None


@pytest.mark.parametrize("reason", ["requested", "time"])
@pytest.mark.parametrize(("policy", "event"), [("skip", "skipped"), ("queue", "queued"), ("replace", "replaced")])
def test_a_time_that_comes_while_the_run_is_on_goes_by_the_policy(
    world: World, policy: str, event: str, reason: str
) -> None:
    release = world.folder.folder / "release"
    job = world.job(code=f"while not os.path.exists({str(release)!r}): time.sleep(0.01)", overlap=policy)
    world.keep(job, requested=reason == "requested")
    with world.scheduler(job) as scheduler:
        if reason == "time":
            scheduler._scheduler.modify_job("nano", next_run_time=datetime.now(UTC))
        wait(world.notes)
        scheduler._scheduler.modify_job("nano", next_run_time=datetime.now(UTC))
        wait(lambda: (event, reason if policy == "replace" else "time") in world.events())
        if policy == "replace":
            wait(lambda: world.notes().count("begin nano") == 2)
        release.touch()
        world.ended(1 if policy != "queue" else 2)
        wait(lambda: world.folder.read()["nano"].running is None)
        time.sleep(0.1)
    assert world.notes().count("end nano") == (2 if policy == "queue" else 1)
    assert world.notes().count("begin nano") == (1 if policy == "skip" else 2)


def test_a_run_that_could_not_be_started_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.scheduling.scheduler.RETRY_S", 0.2)
    logs = world.folder.folder / "logs"
    world.folder.folder.mkdir(parents=True)
    logs.touch()  # where the folder should be
    job = world.job()
    world.keep(job, requested=True)
    with world.scheduler(job):
        wait(world.events)
        logs.unlink()
        world.ended()
        wait(lambda: ("succeeded", "requested") in world.events())
    assert world.folder.read()["nano"].running is None


def test_a_wish_to_replace_a_run_that_has_ended_does_not_end_the_next(world: World) -> None:
    job = world.job(code="time.sleep(0.3)", overlap="replace")
    world.keep(job)
    with world.scheduler(job) as scheduler:
        scheduler._replaced.add("nano")  # the run ended while the scheduler looked at its data
        scheduler._scheduler.modify_job("nano", next_run_time=datetime.now(UTC))
        wait(lambda: len(world.events()) == 2)
    assert world.events() == [("started", "time"), ("succeeded", "time")]


def test_a_run_that_ends_its_schedulers_is_given_up_and_reported(world: World) -> None:
    job = world.job()
    running = Running(reason="time", started=datetime.now(UTC), attempts=ATTEMPTS)
    world.keep(job, running=running.model_dump())
    with world.scheduler(job):
        wait(lambda: world.notified)
    assert world.events() == [("given up", "time")]
    assert not world.notes() and world.folder.read()["nano"].running is None


def test_the_run_of_a_scheduler_that_was_killed_is_waited_for(world: World, tmp_path: Path) -> None:
    program = tmp_path / "scheduler.py"
    code = "while not os.path.exists({!r}): time.sleep(0.01)".format(str(tmp_path / "go"))
    job = world.job(code=code)
    world.keep(job, requested=True)
    program.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from infra.scheduling.scheduler import Scheduler\nfrom infra.scheduling.job import Job\n"
        "from infra.scheduling.config import ScheduleConfig\n"
        "from infra.scheduling.state import ScheduleFolder\n"
        f"job = Job('nano', 'nano.yaml', ScheduleConfig(cron={NEVER!r}), {list(job.command)!r}, str, print)\n"
        "jobs = iter([[job]])\n"
        f"Scheduler(ScheduleFolder(Path({str(world.folder.folder)!r})), lambda: next(jobs, None)).run()\n"
    )
    killed = subprocess.Popen([sys.executable, str(program)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait(world.notes, 30)
    killed.kill()
    killed.wait()
    with world.scheduler(job):
        time.sleep(0.3)
        assert world.notes() == ["begin nano"], "two runs at one time"
        (tmp_path / "go").touch()
        world.ended()
    assert world.notes() == ["begin nano", "end nano"], "a run that ended by itself must not run again"
    assert world.events() == [("started", "requested"), ("succeeded", "requested")]
    assert world.folder.read()["nano"].running is None


def test_a_paused_schedule_leaves_times_out_and_runs_where_it_is_requested(world: World) -> None:
    job = world.job("* * * * *")
    world.keep(job, ago=timedelta(minutes=5), paused=True)
    with world.scheduler(job) as scheduler:
        time.sleep(0.2)
        assert not world.events()
        with world.folder.change_one("nano") as state:
            state.requested = True
        world.ended()
        assert world.events() == [("started", "requested"), ("succeeded", "requested")]
        with world.folder.change_one("nano") as state:
            state.paused = False
        wait(lambda: scheduler._scheduler.get_job("nano").next_run_time is not None)
        assert scheduler._scheduler.get_job("nano").next_run_time > datetime.now(UTC) - timedelta(seconds=1)


def test_data_that_changed_bring_a_run_about_and_data_that_did_not_do_not(world: World) -> None:
    job = world.job("* * * * *", when="data-changed")

    def looks() -> None:
        world.keep(job, ago=timedelta(minutes=5), data=world.folder.read().get("nano", None) and before())
        with world.scheduler(job):
            wait(lambda: world.folder.read()["nano"].handled_until > datetime.now(UTC) - timedelta(minutes=1))
            wait(lambda: world.folder.read()["nano"].running is None)

    def before() -> str | None:
        return world.folder.read()["nano"].data

    looks()
    assert len(world.events()) == 2, "data that were never seen are new"
    looks()
    assert len(world.events()) == 2
    world.data = "data 2"
    looks()
    assert world.events()[2:] == [("started", "data"), ("succeeded", "data")]
    world.data = "!gone"
    looks()
    assert world.events()[4:] == [("failed", "data")] and world.notified == [("nano", "!gone")]


def test_an_error_with_the_data_is_reported_once(world: World) -> None:
    world.data = "!gone"
    job = world.job("* * * * *", when="data-changed")
    for last_error in (None, "!gone"):
        world.keep(job, ago=timedelta(minutes=5), last_error=last_error)
        with world.scheduler(job):
            wait(lambda: world.folder.read()["nano"].handled_until > datetime.now(UTC) - timedelta(minutes=1))
    assert world.notified == [("nano", "!gone")]


def test_a_second_scheduler_is_refused(world: World) -> None:
    with world.scheduler(world.job()), pytest.raises(ScheduleError, match="another scheduler is running"):
        Scheduler(world.folder, lambda: []).run()


def test_two_recipes_of_one_name_are_refused(world: World) -> None:
    with pytest.raises(ScheduleError, match="two recipes have the name 'nano'"):
        Scheduler(world.folder, lambda: [world.job(), world.job()]).run()


def test_files_that_change_are_taken_up_and_bad_ones_leave_things_as_they_were(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Sequence[Job] | ValueError | None] = [[world.job("0 3 * * *")]]

    def load() -> Sequence[Job] | None:
        answer = answers.pop(0) if answers else None
        if isinstance(answer, ValueError):
            raise answer
        return answer

    scheduler = Scheduler(world.folder, load)
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    wait(lambda: world.folder.read().get("nano"))
    answers.append(ValueError("rl.tau: bad"))
    wait(lambda: "rl.tau: bad" in caplog.text)
    assert world.folder.read()["nano"].schedule.cron == "0 3 * * *"
    answers.append([world.job("30 4 * * *"), world.job(name="other")])
    wait(lambda: "other" in world.folder.read())
    assert world.folder.read()["nano"].schedule.cron == "30 4 * * *"
    wait(lambda: scheduler._scheduler.get_job("nano").next_run_time.minute == 30)
    scheduler.stop()
    thread.join(10)


def test_a_clock_that_was_ahead_does_not_hold_a_schedule_up(world: World) -> None:
    job = world.job("* * * * *")
    world.keep(job, ago=-timedelta(days=3650))
    with world.scheduler(job) as scheduler:
        soon = datetime.now(UTC) + timedelta(minutes=2)
        assert scheduler._scheduler.get_job("nano").next_run_time < soon
        # As after a jump forward to a time that the clock is then set back from.
        scheduler._scheduler.modify_job("nano", next_run_time=datetime.now(UTC) + timedelta(days=3650))
        scheduler._latest = datetime.now(UTC) + timedelta(days=3650)
        wait(lambda: scheduler._scheduler.get_job("nano").next_run_time < soon)


def test_a_power_cut_in_the_history_costs_one_line(world: World) -> None:
    world.folder.add_entry("nano", "paused")
    path = world.folder.folder / "history.jsonl"
    with path.open("a") as file:
        file.write('{"time": "2026-01-01T')
    world.folder.add_entry("nano", "resumed")
    assert [event for event, _ in world.events()] == ["paused", "resumed"]


def test_a_state_that_is_not_a_state_is_named_with_the_way_out(world: World) -> None:
    world.keep(world.job())
    path = world.folder.folder / "state.json"
    path.write_text(json.dumps({"format": 3, "schedules": {}}))
    with pytest.raises(ScheduleError, match=r"state\.json cannot be read: .*(?s:.)*remove it"):
        world.folder.read()


def test_commands_and_scheduler_change_the_state_without_losing_each_others_changes(world: World) -> None:
    for number in range(8):
        world.keep(world.job(name=f"job{number}"))

    def pause_all() -> None:
        for number in range(8):
            with world.folder.change_one(f"job{number}") as state:
                state.paused = True

    def ask_all() -> None:
        for number in range(8):
            with world.folder.change_one(f"job{number}") as state:
                state.requested = True

    threads = [threading.Thread(target=work) for work in (pause_all, ask_all)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(state.paused and state.requested for state in world.folder.read().values())


def test_the_lock_of_a_run_goes_with_it(world: World) -> None:
    job = world.job(code="time.sleep(0.1)")
    world.keep(job, requested=True)
    with world.scheduler(job):
        wait(world.notes)
        with world.folder.lock("run.lock") as held:
            assert held is None
        world.ended()

    def free() -> bool:
        with world.folder.lock("run.lock") as held:
            return held is not None

    wait(free)


def test_a_folder_of_an_older_version_is_read_and_written_under_the_names_of_today(world: World) -> None:
    time = "2026-01-02T03:00:00Z"
    schedule = {"cron": "0 3 * * 1", "timezone": "UTC", "what": "full", "when": "data-changed", "grace_s": 3600}
    running = {"why": "asked for", "started": time, "attempts": 2}
    old = {"config": "nano.yaml", "schedule": schedule, "since": time, "asked": True, "running": running}
    state = {"format": 1, "schedules": {"nano": {**old, "paused": False, "data": None, "trouble": "gone"}}}
    world.folder.folder.mkdir()
    (world.folder.folder / "state.json").write_text(json.dumps(state))
    lines = [
        {"time": time, "schedule": "nano", "event": "asked for"},
        {"time": time, "schedule": "nano", "event": "started", "why": "asked for, goes on"},
        {"time": time, "schedule": "nano", "event": "failed", "why": "data", "error": "asked for"},
    ]
    (world.folder.folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with world.folder.change_one("nano") as read:
        assert read.handled_until == datetime(2026, 1, 2, 3, tzinfo=UTC)
        assert (read.requested, read.last_error) == (True, "gone")
        assert read.running is not None and (read.running.reason, read.running.attempts) == ("requested", 2)
    assert [(one.event, one.reason, one.error) for one in world.folder.history()] == [
        ("requested", "", None),
        ("started", "requested, continued", None),
        ("failed", "data", "asked for"),
    ]
    written = json.loads((world.folder.folder / "state.json").read_text())
    assert written["format"] == 2
    assert not {"since", "asked", "trouble"} & written["schedules"]["nano"].keys()
    assert world.folder.read()["nano"] == read
