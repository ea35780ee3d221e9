"""A schedule with real runs: files that changed are read again, and stages whose data are the same are reused."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.scheduling.state import HistoryEntry, ScheduleFolder
from infra.store import records
from infra.store.open import open_store
from infra.store.records import RunRecord, StageRecord
from steps.configs.data import NanoWorldConfig
from steps.nano_world.world import generate
from tests.flows.home import Home, in_home, store_as_finished

ROOT = Path(__file__).parents[2]
STAGES = ["data", "import", "vanilla_sft", "curation", "long_cot_sft", "rl"]
STAGES += [f"long2short/{method}" for method in ("merge", "shortest", "dpo", "rl")]


class Scheduled:
    """A scheduler at work on the smoke recipe, which reads its data from files, in a home of its own.

    Its store has a finished run of the smoke recipe, which generates the same data itself.
    """

    def __init__(self, folder: Path, store: Path) -> None:
        self.home = folder / "home"
        self.data = folder / "data"
        self.schedules = ScheduleFolder(self.home / "schedule")
        self.config = folder / "recipe.yaml"
        self.environment = in_home(self.home)
        world = NanoWorldConfig(train_problems=96, test_problems=12, sft_examples=400, long_cot_paths=96)
        generate(world, 0).save(self.data)
        sources = {role: [{"path": str(self.data / f"{role}.jsonl")}] for role in ("train", "test", "sft", "long_cot")}
        recipe = yaml.safe_load((ROOT / "configs" / "smoke.yaml").read_text())
        recipe |= {
            "name": "small",
            "store": str(store),
            "tracking": {"mode": "disabled"},
            "data": {"sources": sources},
            "schedule": {"cron": "0 0 29 2 *", "what": "full"},
        }
        self.recipe = recipe
        self.write()

    def write(self, **schedule: str) -> None:
        self.recipe["schedule"] |= schedule
        self.config.write_text(yaml.safe_dump(self.recipe))

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flows.cli.schedule", "run", "--config", str(self.config)]
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, stderr=subprocess.DEVNULL, text=True)

    def longhaul(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def ended(self, runs: int, seconds: float = 1000) -> HistoryEntry:
        """The newest end of a run, once there were so many."""
        entries: list[HistoryEntry] = []

        def enough() -> bool:
            entries[:] = [one for one in self.schedules.history() if one.event in ("succeeded", "failed", "given up")]
            return len(entries) >= runs

        wait(enough, seconds)
        assert len(entries) == runs and entries[-1].event == "succeeded", entries[-1].error
        return entries[-1]

    def actions(self) -> dict[str, str]:
        """What the plan says now."""
        planned = json.loads(self.longhaul("plan", "--config", str(self.config), "--json"))["stages"]
        return {one["stage"]: one["action"] for one in planned if one["action"] != "skip"}

    def did(self, run: str | None) -> dict[str, str]:
        """What a run did with each stage."""
        assert run is not None
        report: dict[str, Any] = json.loads(self.longhaul("show", run, "--store", self.recipe["store"], "--json"))
        return {one["stage"]: "reuse" if one["reused_from"] else "run" for one in report["stages"]}


def wait(seen: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture
def scheduled(tmp_path: Path, smoke: tuple[Home, subprocess.CompletedProcess[str]]) -> Iterator[Scheduled]:
    made = Scheduled(tmp_path, store_as_finished(smoke[0]))
    process = made.start()
    try:
        wait(lambda: "small" in made.schedules.read())
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_same_data_and_seed_make_the_same_outputs_to_the_byte_in_other_processes(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    recipe = yaml.safe_load((ROOT / "configs" / "smoke.yaml").read_text())
    recipe |= {"store": str(tmp_path / "store"), "tracking": {"mode": "disabled"}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "tests.flows.forked_stages", str(tmp_path / "recipe.yaml")]
    environment = in_home(tmp_path / "home")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    again: dict[str, dict[str, str]] = json.loads(done.stdout)
    # Not before: another worker may be making it meanwhile.
    smoke: tuple[Home, subprocess.CompletedProcess[str]] = request.getfixturevalue("smoke")
    store = open_store(str(store_as_finished(smoke[0])))
    run = min(record.run for record in records.read(store, RunRecord, "runs"))  # names begin with the time
    first = {one.stage: one for one in records.read(store, StageRecord, f"stage-runs/{run}")}
    assert again.keys() == first.keys() >= set(STAGES)
    assert again == {stage: {name: ref.digest for name, ref in one.outputs.items()} for stage, one in first.items()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_scheduled_runs_reuse_what_has_the_same_data_and_read_files_that_changed(scheduled: Scheduled) -> None:
    scheduled.longhaul("schedule", "trigger", "small")
    first = scheduled.ended(1)
    assert first.reason == "requested"
    did = scheduled.did(first.run)
    # The data come from files now, and are the same.
    assert did == {stage: "run" if stage == "data" else "reuse" for stage in did} and did.keys() >= set(STAGES)
    assert str(first.run) in scheduled.longhaul("schedule", "history", "--json")

    scheduled.longhaul("schedule", "trigger", "small")
    second = scheduled.ended(2)
    assert second.run != first.run
    assert scheduled.did(second.run) == dict.fromkeys(did, "reuse")

    scheduled.longhaul("schedule", "pause", "small")
    scheduled.write(cron="* * * * *", when="data-changed")
    wait(lambda: scheduled.schedules.read()["small"].schedule.when == "data-changed")
    train = scheduled.data / "train.jsonl"
    rows = [json.loads(row) for row in train.read_text().splitlines()]
    train.write_text("".join(json.dumps(row, sort_keys=True, separators=(" , ", " : ")) + "\n" for row in rows))
    planned = scheduled.actions()
    assert planned["data"] == "run" and planned["import"] == "reuse"
    scheduled.longhaul("schedule", "resume", "small")
    third = scheduled.ended(3)
    assert third.reason == "data"
    did = scheduled.did(third.run)
    # Written in another way, the rows are the same: nothing that reads them runs.
    assert did == {stage: "run" if stage == "data" else "reuse" for stage in planned}
