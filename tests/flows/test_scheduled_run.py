"""A schedule with real runs: the first makes the models, the next reuses them, changed data rerun what needs them."""

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
from infra.store.evaluation_stages import is_evaluation
from steps.configs.data import NanoWorldConfig
from steps.nano_world.world import generate
from tests.flows.home import Home, in_home

ROOT = Path(__file__).parents[2]
STAGES = ["data", "import", "vanilla_sft", "curation", "long_cot_sft", "rl"]
STAGES += [f"long2short/{method}" for method in ("merge", "shortest", "dpo", "rl")]


class Scheduled:
    """A scheduler at work on the smoke recipe, which reads its data from files, in a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.data = folder / "data"
        self.schedules = ScheduleFolder(self.home / "schedule")
        self.config = folder / "recipe.yaml"
        self.environment = in_home(self.home)
        world = NanoWorldConfig(train_problems=96, test_problems=12, sft_examples=800, long_cot_paths=96)
        generate(world, 0).save(self.data)
        files = {name: str(self.data / f"{name}.jsonl") for name in ("train", "test", "sft", "long_cot")}
        recipe = yaml.safe_load((ROOT / "configs" / "smoke.yaml").read_text())
        recipe |= {
            "name": "small",
            "store": str(folder / "store"),
            "tracking": {"mode": "disabled"},
            "data": {"files": files},
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
def scheduled(tmp_path: Path) -> Iterator[Scheduled]:
    made = Scheduled(tmp_path)
    process = made.start()
    try:
        wait(lambda: "small" in made.schedules.read())
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.slow
@pytest.mark.timeout(1500)  # three runs, beside another worker's
def test_a_scheduled_run_makes_the_same_models_the_next_reuses_them_and_data_rerun(
    scheduled: Scheduled, request: pytest.FixtureRequest
) -> None:
    scheduled.longhaul("schedule", "trigger", "small")
    first = scheduled.ended(1)
    assert first.reason == "requested"
    made = scheduled.did(first.run)
    assert set(made.values()) == {"run"} and made.keys() >= set(STAGES)
    assert str(first.run) in scheduled.longhaul("schedule", "history", "--json")
    # Not before: the other worker makes it meanwhile.
    smoke: tuple[Home, subprocess.CompletedProcess[str]] = request.getfixturevalue("smoke")
    report = scheduled.longhaul("report", "--run", str(first.run), "--store", scheduled.recipe["store"], "--json")
    models, expected = (
        {row["stage"]: (row["model"], row["accuracy"], row["mean_tokens"]) for row in json.loads(printed)["stages"]}
        for printed in (report, smoke[1].stdout)
    )
    assert len(models) == 9 and models == expected, "the same data and seed made other models in another home"

    scheduled.longhaul("schedule", "trigger", "small")
    second = scheduled.ended(2)
    assert second.run != first.run
    assert scheduled.did(second.run) == dict.fromkeys(made, "reuse")

    scheduled.longhaul("schedule", "pause", "small")
    scheduled.write(cron="* * * * *", when="data-changed")
    wait(lambda: scheduled.schedules.read()["small"].schedule.when == "data-changed")
    test = scheduled.data / "test.jsonl"
    test.write_text("".join(test.read_text().splitlines(keepends=True)[:-1]))
    planned = scheduled.actions()
    assert planned["data"] == "run"
    scheduled.longhaul("schedule", "resume", "small")
    third = scheduled.ended(3)
    assert third.reason == "data"
    did = scheduled.did(third.run)
    assert did.keys() == planned.keys() == made.keys()
    assert all(did[stage] == "reuse" for stage, action in planned.items() if action == "reuse")
    # Only the test problems changed: the models are evaluated again, and none is trained again.
    assert did == {stage: "run" if stage == "data" or is_evaluation(stage) else "reuse" for stage in made}
