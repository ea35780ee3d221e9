"""Stages: what is used again, what is run again, what is recorded, and what a stage that was killed finds."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel

from infra.gates.result import GateFailed, GateResult
from infra.images import pixel_digest, store_image
from infra.stages.contract import Body, StageContext, StageOutput
from infra.stages.key import KeyParts
from infra.stages.reuse import KeyClaimed, find_reusable
from infra.stages.runner import StageRunner, StageTask
from infra.store import records
from infra.store.open import open_store
from infra.store.records import OtherBytes, StageRecord, parse_record
from infra.store.store import StoreError
from infra.tracking.tracker import TrackingConfig


class Settings(BaseModel):
    text: str


def write(context: StageContext, settings: Settings) -> StageOutput:
    """A stage in two parts, which remembers that the first is done."""
    done = context.checkpoints / "first_part"
    resumed = done.exists()
    done.parent.mkdir(parents=True, exist_ok=True)
    done.touch()
    context.log({"parts": 1})
    if (context.folder.parent.parent / "fail").exists():
        raise RuntimeError("out of luck")
    out = context.folder / "out"
    out.mkdir()
    (out / "text").write_text(settings.text)
    return StageOutput({"text": ("dataset", out)}, {"resumed": resumed})


class Stages:
    """A runner, and how often bodies were loaded."""

    def __init__(self, folder: Path, run: str = "run-1") -> None:
        store = open_store(folder / "store")
        self.runner = StageRunner(store, run, folder / "home", TrackingConfig(mode="disabled"))
        self.loaded = 0

    def load(self) -> Body:
        self.loaded += 1
        return write

    def task(self, text: str, seed: int = 0, stage: str = "write", **sources: str) -> StageTask:
        settings = Settings(text=text)
        parts = KeyParts.now(stage, settings.model_dump(), seed, {}, sources, "infra.stages.contract")
        return StageTask(stage, parts, settings, self.load, addresses={name: f"/{name}" for name in sources})

    def __call__(self, text: str, force: bool = False, **parts: Any) -> StageRecord:
        return self.runner(self.task(text, **parts), force)

    def recorded(self, name: str) -> list[StageRecord]:
        return list(records.read(self.runner.store, StageRecord, name))


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(tmp_path)


def test_the_same_key_is_used_again_and_another_runs(stages: Stages) -> None:
    first, again = stages("a"), stages("a")
    assert (first.reused_from, again.reused_from) == (None, "run-1")
    assert again.outputs == first.outputs
    assert stages.loaded == 1, "what is used again need not be loaded: that imports an engine"
    others = [stages("b"), stages("a", seed=1), stages("a", data="changed")]
    assert len({record.key for record in [first, *others]}) == 4
    assert all(record.reused_from is None for record in others)


def test_what_is_used_again_is_recorded_under_each_run_with_the_run_that_made_it(tmp_path: Path) -> None:
    for run in ("run-1", "run-2", "run-3"):
        Stages(tmp_path, run)("a")
    made = [Stages(tmp_path).recorded(f"stage-runs/{run}")[0] for run in ("run-1", "run-2", "run-3")]
    assert [(record.run, record.reused_from) for record in made] == [
        ("run-1", None),
        ("run-2", "run-1"),
        ("run-3", "run-1"),
    ]
    assert len(Stages(tmp_path).recorded(f"stages/{made[0].key}")) == 1


def test_force_runs_a_stage_in_any_case(stages: Stages) -> None:
    assert [stages("a").reused_from, stages("a", force=True).reused_from] == [None, None]
    assert stages.loaded == 2


def judge(context: StageContext, settings: Settings) -> StageOutput:
    """A stage that has a program run."""
    from infra.sandbox.config import open_sandbox

    sandbox = open_sandbox()
    sandbox.close()
    return write(context, settings)


def test_the_record_says_in_what_programs_ran(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGHAUL_SANDBOX", "bubblewrap")
    (sandbox,) = stages.runner(replace(stages.task("a"), load_body=lambda: judge)).sandboxes
    assert sandbox in ("bubblewrap", "bubblewrap without control groups")
    assert stages("b").sandboxes == [], "a stage without programs has none, also in the process of one with them"
    monkeypatch.setenv("LONGHAUL_SANDBOX", "auto")
    if shutil.which("crun") and os.geteuid() == 0:
        which = shutil.which
        monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "bwrap" else which(tool))
        (sandbox,) = stages.runner(replace(stages.task("c"), load_body=lambda: judge)).sandboxes
        assert sandbox.startswith("crun") and "(not bubblewrap: no `bwrap` on PATH" in sandbox
    monkeypatch.setenv("LONGHAUL_SANDBOX", "http://user:secret@127.0.0.1:1")
    (sandbox,) = stages.runner(replace(stages.task("d"), load_body=lambda: judge)).sandboxes
    assert sandbox == "the service http://127.0.0.1:1"


def clock(context: StageContext, settings: Settings) -> StageOutput:
    """A stage that makes something else each time."""
    out = context.folder / "out"
    out.mkdir()
    (out / "text").write_text(str(time.perf_counter_ns()))
    return StageOutput({"text": ("dataset", out)}, {})


def test_other_bytes_under_the_same_key_are_reported_and_not_what_is_reused(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.load = lambda: clock  # type: ignore[method-assign]
    first = stages("a")
    assert first.other_bytes is None
    stages.runner = replace(stages.runner, run="run-2")
    forced = stages("a", force=True)
    assert forced.other_bytes == OtherBytes(run="run-1", outputs=["text"])
    assert "write: the same key as in run run-1, but other bytes: text" in capsys.readouterr().err
    assert stages("a").outputs == first.outputs, "a forced run must not silently replace what is reused"
    shutil.rmtree(Path(first.outputs["text"].address).parent)
    assert stages("a").outputs == forced.outputs, "where nothing else is left it may be reused"


def test_the_same_bytes_under_the_same_key_are_nothing_to_report(stages: Stages) -> None:
    stages("a")
    assert stages("a", force=True).other_bytes is None


def test_another_environment_is_reused_only_where_allowed_and_the_record_says_so(stages: Stages) -> None:
    task = stages.task("a")
    here = replace(task, parts=replace(task.parts, environment={"threads": "1", "processor": "A"}))
    there = replace(task, parts=replace(task.parts, environment={"threads": "2", "processor": "A"}))
    assert stages.runner(here).reused_from is None
    assert stages.runner.find_reusable(there.parts).record is None
    anywhere = replace(stages.runner, any_environment=True)
    reused = anywhere(there)
    assert reused.reused_from == "run-1"
    assert reused.reused_despite == ["threads: 1 → 2"]
    other = replace(task, parts=replace(there.parts, config={"text": "b"}))
    assert anywhere.find_reusable(other.parts).record is None


class GateStage:
    """A stage with gates on what it reads; a file in the home makes them fail."""

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        self.checks = 0

    def check(self, context: StageContext, settings: Settings) -> None:
        self.checks += 1
        failed = (self.stages.runner.home / "gate fails").exists()
        rule = {
            "expectation": "rows",
            "column": None,
            "rule": "there are rows",
            "severity": "stop",
            "success": not failed,
        }
        results: dict[str, Any] = {"unexpected": None, "examples": [], "observed": None, "error": None}
        context.gates.append(GateResult.of("input", self.checks, [rule | results]))
        if failed:
            raise GateFailed("rows are missing")

    def __call__(self, gates_key: str) -> StageRecord:
        task = replace(self.stages.task("a"), load_check=lambda: self.check, gates_key=gates_key)
        return self.stages.runner(task)


def test_gates_that_changed_check_again_and_the_stage_is_reused(stages: Stages) -> None:
    stage = GateStage(stages)
    assert [stage("rules 1").reused_from, stage("rules 1").reused_from] == [None, "run-1"]
    assert stage.checks == 1
    again = stage("rules 2")
    assert (stage.checks, stages.loaded) == (2, 1), "the gates alone run again"
    assert (again.reused_from, again.gates_key) == ("run-1", "rules 2")
    assert [gate["rows"] for gate in again.gates] == [2], "the record has the newest results"
    stage("rules 2")
    assert stage.checks == 2, "gates that passed do not run again either"


def test_the_page_of_gates_has_the_images_of_the_data_that_was_read(stages: Stages, tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 3), "red")
    (tmp_path / "data").mkdir()
    store_image(image, tmp_path / "data")
    example = {"row": 0, "id": "p0", "value": "twice", "why": None, "images": [pixel_digest(image)]}
    rule = {"expectation": "rows", "column": "id", "rule": "once", "severity": "warn", "success": False}
    rule |= {"unexpected": 1, "examples": [example], "observed": None, "error": None}

    def check(context: StageContext, settings: Settings) -> None:
        context.gates.append(GateResult.of("input", 1, [rule]))

    ref = stages.runner.store.put(tmp_path / "data", "dataset")
    stages.runner(replace(stages.task("a"), inputs={"data": ref}, load_check=lambda: check, gates_key="rules"))
    page = (stages.runner.home / "runs" / "run-1" / "write-gates.html").read_text()
    assert 'src="data:image/png;base64,' in page and f"Image 1 of p0, {pixel_digest(image)[:12]}" in page


def test_gates_that_fail_on_what_a_reused_stage_read_stop_it(stages: Stages) -> None:
    stage = GateStage(stages)
    stage("rules 1")
    (stages.runner.home / "gate fails").touch()
    with pytest.raises(GateFailed):
        stage("rules 2")
    failed = stages.recorded("stage-runs/run-1")[-1]
    assert failed.failure is not None and failed.gates[0]["passed"] is False
    (stages.runner.home / "gate fails").unlink()
    assert stage("rules 2").reused_from == "run-1"


def test_a_record_of_format_1_reads_and_says_that_its_key_was_made_by_other_rules(stages: Stages) -> None:
    record = stages("a").model_dump(mode="json")
    for name in ("key_format", "source_digests", "definitions", "environment", "gates_key", "other_bytes"):
        del record[name]
    figures = dict.fromkeys(("accuracy", "standard_error", "mean_tokens", "median_tokens", "p99_tokens"), 0.5)
    evaluation = {"problems": 1, "samples": 1, **figures, "domains": {}, "shown": []}
    old = parse_record(StageRecord, {**record, "format": 1, "evaluation": evaluation}, "a record")
    assert old.evaluation is not None and old.evaluation.accuracy == 0.5
    (difference,) = stages.task("a").parts.differences(KeyParts.of(old))
    assert str(difference) == "stage keys are made by other rules now (format 1 → 2)"


def test_a_record_tells_code_inputs_and_packages(stages: Stages) -> None:
    record = stages("a", data="d" * 64)
    assert {"infra.stages.contract", "infra.store.evaluation"} <= record.modules.keys()
    assert (record.sources, record.source_digests) == ({"/data": "d" * 64}, {"data": "d" * 64})
    assert {"python", "pydantic"} == record.packages.keys()
    assert record.history == [{"parts": 1}]
    assert KeyParts.of(record).key == record.key


def test_outputs_that_are_gone_are_made_again(stages: Stages) -> None:
    first = stages("a")
    shutil.rmtree(Path(first.outputs["text"].address).parent)
    again = stages("a")
    assert again.reused_from is None
    assert (stages.runner.store.fetch(again.outputs["text"]) / "text").read_text() == "a"


def test_damaged_outputs_are_made_again_and_the_stored_copy_is_healed(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    first = stages("a")
    text = Path(first.outputs["text"].address) / "text"
    text.chmod(0o644)
    text.write_text("b")
    again = stages("a")
    assert again.reused_from is None
    assert "write: the outputs of run run-1 cannot be reused" in capsys.readouterr().err
    assert again.outputs == first.outputs
    stages.runner.store.verify(again.outputs["text"])
    assert stages("a").reused_from == "run-1"


def test_a_stage_that_failed_finds_its_checkpoint_and_leaves_nothing_but_a_record(stages: Stages) -> None:
    home = stages.runner.home
    home.mkdir()
    (home / "fail").touch()
    with pytest.raises(RuntimeError, match="out of luck"):
        stages("a")
    (failed,) = stages.recorded("stage-runs/run-1")
    assert failed.failure is not None
    assert failed.failure.error == "RuntimeError: out of luck"
    assert failed.outputs == {} and failed.history == [{"parts": 1}]
    assert find_reusable(stages.runner.store, KeyParts.of(failed)).record is None
    (home / "fail").unlink()
    assert stages("a").metrics == {"resumed": True}
    assert stages("b").metrics == {"resumed": False}
    assert not list((home / "checkpoints").iterdir())
    assert not list((home / "scratch").iterdir())


def test_a_key_that_two_stages_claim_is_refused(stages: Stages) -> None:
    record = stages("a")
    records.write(stages.runner.store, f"stages/{record.key}", record.model_copy(update={"stage": "another"}))
    with pytest.raises(KeyClaimed, match="claimed by two stages, 'write' and 'another'"):
        stages("a")


def test_a_record_of_a_newer_version_is_refused_with_its_version(stages: Stages) -> None:
    record = stages("a")
    newer: dict[str, Any] = {**record.model_dump(mode="json"), "format": 99, "unheard_of": 1}
    stages.runner.store.write_record(f"stages/{record.key}", newer)
    with pytest.raises(StoreError, match=r"newer version of Longhaul \(format 99; this one reads up to 2\)"):
        stages("a")


def test_figures_that_are_no_numbers_do_not_keep_a_record_from_being_written(stages: Stages) -> None:
    def diverge(context: StageContext, settings: Settings) -> StageOutput:
        context.log({"loss": float("nan")})
        raise RuntimeError("diverged")

    stages.load = lambda: diverge  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="diverged"):
        stages("a")
    assert stages.recorded("stage-runs/run-1")[0].history == [{"loss": None}]


def test_two_processes_at_the_same_stage_do_its_work_once(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from infra.stages.contract import StageOutput
from infra.stages.key import KeyParts
from infra.stages.runner import StageRunner, StageTask
from infra.store.open import open_store
from infra.tracking.tracker import TrackingConfig

def slow(context, settings):
    time.sleep(2)
    (context.folder / "out").mkdir()
    (context.folder / "out" / "x").write_text("x")
    return StageOutput({{"x": ("dataset", context.folder / "out")}}, {{}})

store = open_store({str(tmp_path / "store")!r})
home, tracking = Path({str(tmp_path)!r}), TrackingConfig(mode="disabled")
runner = StageRunner(store, "r", home, tracking)
parts = KeyParts.now("slow", {{}}, 0, {{}}, {{}}, "infra.stages.contract")
print(runner(StageTask("slow", parts, None, lambda: slow)).model_dump_json())
"""
    both = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    actual = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert sorted(record["reused_from"] or "" for record in actual) == ["", "r"]


def test_an_attempt_on_another_machine_resumes_from_the_checkpoints_in_a_shared_store(s3: None, tmp_path: Path) -> None:
    import boto3

    boto3.client("s3").create_bucket(Bucket="checkpoints-of-stages")
    store = open_store("s3://checkpoints-of-stages/store", tmp_path / "cache")
    first, second = Stages(tmp_path / "first"), Stages(tmp_path / "second")
    for stages in (first, second):
        home = stages.runner.home
        stages.runner = StageRunner(store, "run-1", home, TrackingConfig(mode="disabled"))
    first.runner.home.mkdir(parents=True)
    (first.runner.home / "fail").touch()
    with pytest.raises(RuntimeError, match="out of luck"):
        first("a")
    assert second("a").metrics == {"resumed": True}
    assert not store.backend.files("checkpoints")


def test_a_damaged_record_under_a_key_is_said_and_the_stage_is_still_reused_or_made(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    record = stages("a")
    store = stages.runner.store
    store.backend.write_text(f"records/stages/{record.key}/{1:020d}-ab.json", '{"format": 2, "sta')
    assert stages("a").reused_from == "run-1"
    (sound,) = [key for key in store.list_records(f"stages/{record.key}") if not key.endswith("-ab.json")]
    store.backend.write_text(f"records/{sound}", '{"outputs": {}}')
    assert stages("a").reused_from is None, "a record that was edited is not believed"
    assert "cannot be used" in capsys.readouterr().err
    assert stages("a").reused_from == "run-1", "the new record counts beside the damaged ones"
