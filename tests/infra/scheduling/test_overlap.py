"""One run of a schedule at a time, and what becomes of a time that comes while it is on."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from infra.scheduling.state import Running
from tests.infra.scheduling.world import World, wait


def test_one_runs_at_a_time(world: World) -> None:
    jobs = [world.job(code="time.sleep(0.15)", name=name) for name in ("a", "b", "c")]
    for job in jobs:
        world.keep(job, requested=True)
    with world.scheduler(*jobs):
        world.ended(3)
    notes = world.notes()
    assert [note.split()[0] for note in notes] == ["begin", "end"] * 3
    assert all(notes[i].split()[1] == notes[i + 1].split()[1] for i in (0, 2, 4))


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
