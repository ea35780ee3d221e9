"""What `longhaul lineage serve` hands to the page."""

import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from flows.cli import lineage_actions
from flows.cli.lineage_actions import Commands, schedules
from flows.cli.lineage_host import BackgroundStaleness, StoreStaleness, page_host
from infra.lineage.rows import RunDetail, RunRow
from infra.lineage.web.host import Action, ChainStatus, StageStatus
from infra.scheduling.config import ScheduleConfig
from infra.scheduling.state import Running, ScheduleFolder, ScheduleState
from infra.store import records
from infra.store.open import open_store
from infra.store.records import RunRecord
from infra.store.store import Store
from tests.infra.lineage.records import stage_record

STALE = ChainStatus({"rl": StageStatus("stale", "why")}, "longhaul run", "2026-01-01T00:00:00+00:00")


def detail(run: str = "first") -> RunDetail:
    row = RunRow(f"run:{run}", run, "nano", "succeeded", "2026", None, 1, 0, None, None, 0)
    start = RunRecord(run=run, event="started", time="2026", command=["run"])
    return RunDetail(row, start, None, (stage_record("rl", run),))


def answer_of(staleness: BackgroundStaleness, run: RunDetail) -> ChainStatus:
    until = time.monotonic() + 10
    while (status := staleness(run)) is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    return status


def test_a_comparison_is_made_aside_once_for_all_who_look() -> None:
    calls: list[str] = []
    go = threading.Event()

    def compare(run: RunDetail) -> ChainStatus:
        calls.append(run.row.run)
        go.wait(10)
        return STALE

    staleness = BackgroundStaleness(compare)
    assert staleness(detail()) is None and staleness(detail()) is None
    go.set()
    assert answer_of(staleness, detail()).stale == ["rl"] and calls == ["first"]
    assert answer_of(staleness, detail("second")).stale == ["rl"] and calls == ["first", "second"]


def test_an_old_comparison_is_shown_until_the_next_one_is_there() -> None:
    calls: list[str] = []
    go = threading.Event()

    def compare(run: RunDetail) -> ChainStatus:
        calls.append(run.row.run)
        if len(calls) > 1:
            go.wait(10)
        return STALE

    staleness = BackgroundStaleness(compare, fresh_seconds=0)
    answer_of(staleness, detail())
    until = time.monotonic() + 10
    while len(calls) < 2 and time.monotonic() < until:
        assert staleness(detail()) is STALE
    assert len(calls) == 2
    go.set()


def test_whatever_a_comparison_raises_is_the_problem() -> None:
    def compare(run: RunDetail) -> ChainStatus:
        raise KeyError("odd")

    assert "KeyError: 'odd'" in answer_of(BackgroundStaleness(compare), detail()).problem


def test_a_run_whose_start_is_not_in_the_store_is_of_unknown_state(tmp_path: Path) -> None:
    compare: Callable[[RunDetail], ChainStatus] = StoreStaleness(open_store(tmp_path))
    status = compare(detail())
    assert status.stages["rl"].state == "unknown" and "no record of its start" in status.stages["rl"].reason


def test_the_page_is_handed_the_behaviours(tmp_path: Path) -> None:
    host = page_host(open_store(tmp_path))
    assert set(host.behaviours) == {"planning", "evaluation", "reflection", "exploration"}


def recorded_run(store: Store, *arguments: str) -> None:
    """A run whose start is in a store."""
    config = yaml.safe_load(Path("configs/smoke.yaml").read_text())
    start = RunRecord(run="first", event="started", time="2026", recipe=config, command=["run", *arguments])
    records.write(store, "runs/first", start)


@pytest.mark.parametrize(
    ("action", "command"),
    [
        (Action("stop", "first"), "longhaul stop first"),
        (Action("trigger", "nightly"), "longhaul schedule trigger nightly"),
        (
            Action("rerun", "first", "long2short/dpo"),
            "longhaul run --config configs/smoke.yaml --set rl.tau=0.2 --seed 3 --from long2short/dpo",
        ),
        (
            Action("tag", "a" * 64, "production", "--force; rm -rf /"),
            f"longhaul tag {'a' * 64} production --store=STORE '--reason=--force; rm -rf /'",
        ),
    ],
)
def test_an_action_is_a_command(tmp_path: Path, action: Action, command: str) -> None:
    store = open_store(tmp_path)
    recorded_run(store, "--config", "configs/smoke.yaml", "--set", "rl.tau=0.2", "--seed", "3", "--until", "rl")
    assert Commands(store).text(action).replace(str(tmp_path), "STORE") == command


@pytest.mark.parametrize(
    "action",
    [
        Action("stop", "--help"),
        Action("stop", "a b"),
        Action("trigger", "-x"),
        Action("rerun", "first", "--force"),
        Action("rerun", "no-such-run", "rl"),
        Action("tag", "a" * 64, "--remove"),
        Action("tag", "production", "production"),
    ],
)
def test_what_a_command_could_take_for_something_else_is_refused(tmp_path: Path, action: Action) -> None:
    store = open_store(tmp_path)
    recorded_run(store, "--config", "configs/smoke.yaml")
    with pytest.raises(ValueError, match=r"\S"):
        Commands(store).text(action)


def test_what_a_command_prints_is_what_came_of_it(tmp_path: Path) -> None:
    result = Commands(open_store(tmp_path)).perform(Action("tag", "a" * 64, "production"))
    assert not result.done and "holds no run yet" in result.message and "Traceback" not in result.message


def test_runs_started_within_a_second_have_a_log_each_and_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    recorded_run(store, "--config", "configs/smoke.yaml")
    monkeypatch.setattr(lineage_actions, "HOME", tmp_path)
    script = "import os, sys; print(sys.argv[-1], os.environ.get('LONGHAUL_LINEAGE_TOKEN'))"
    monkeypatch.setattr(lineage_actions, "LONGHAUL", (sys.executable, "-Ic", script))
    monkeypatch.setattr("time.strftime", lambda *_: "20260101-000000")
    monkeypatch.setenv("LONGHAUL_LINEAGE_TOKEN", "secret")
    commands = Commands(store)
    results = [commands.perform(Action("rerun", "first", stage)) for stage in ("rl", "curation")]
    assert [each.message for each in results] == ["rl None", "curation None"]
    assert sorted(log.read_text() for log in (tmp_path / "page").iterdir()) == ["curation None\n", "rl None\n"]


def test_schedules_have_their_next_times_and_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage_actions, "HOME", tmp_path)
    assert schedules().schedules == [] and not schedules().scheduler_runs
    folder = ScheduleFolder(tmp_path / "schedule")
    config = ScheduleConfig(cron="0 3 * * 1", timezone="Europe/Berlin")
    until = datetime(2099, 3, 1, tzinfo=UTC)
    with folder.change() as states:
        states["nightly"] = ScheduleState(config="nano.yaml", schedule=config, handled_until=until)
        states["other"] = ScheduleState(config="nano.yaml", schedule=config, handled_until=until, paused=True)
    folder.add_entry("nightly", "started", reason="time")
    folder.add_entry("nightly", "failed", run="first", error="no luck", seconds=3.0)
    nightly, other = schedules().schedules
    # The clock goes forward on the 29th of March 2099.
    assert nightly.next[3:] == ["Mon 2099-03-23 03:00 +0100", "Mon 2099-03-30 03:00 +0200"]
    assert [(entry.event, entry.run) for entry in nightly.history] == [("failed", "first"), ("started", None)]
    assert (other.state, other.next, other.history) == ("paused", [], [])
    with folder.change_one("nightly") as state:
        state.running = Running(reason="time", started=until)
    assert schedules().schedules[0].state == "interrupted", "no process runs it"
    (tmp_path / "schedule" / "state.json").write_text("{")
    assert "cannot be read" in schedules().problem
