"""The scheduler, with real processes: one at a time, through restarts and kills, and what it says that it did."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.scheduling.job import Job
from infra.scheduling.scheduler import ATTEMPTS, Scheduler
from infra.scheduling.state import Running, ScheduleError
from tests.infra.scheduling.world import NEVER, ROOT, World, wait


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
