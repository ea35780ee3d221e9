"""Stages: what is used again, what is run again, and what a stage that was killed finds."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from infra.stages import StageContext, StageOutput, StageRunner
from infra.store import Store
from infra.tracking import TrackingConfig


class Settings(BaseModel):
    text: str
    fail: bool = False


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


@pytest.fixture
def runner(tmp_path: Path) -> StageRunner:
    return StageRunner(Store(tmp_path / "store"), "run-1", tmp_path / "home", TrackingConfig(mode="disabled"))


def test_the_same_key_is_used_again_and_another_runs(runner: StageRunner) -> None:
    first = runner("write", write, Settings(text="a"), 0, {}, {})
    again = runner("write", write, Settings(text="a"), 0, {}, {})
    assert (first.reused_from, again.reused_from) == (None, "run-1")
    assert again.outputs == first.outputs
    others = [
        runner("write", write, Settings(text="b"), 0, {}, {}),
        runner("write", write, Settings(text="a"), 1, {}, {}),
        runner("write", write, Settings(text="a"), 0, {}, {"data": "changed"}),
    ]
    assert len({record.key for record in [first, *others]}) == 4
    assert all(record.reused_from is None for record in others)


def test_outputs_that_are_gone_are_made_anew(runner: StageRunner) -> None:
    first = runner("write", write, Settings(text="a"), 0, {}, {})
    shutil.rmtree(Path(first.outputs["text"].address).parent)
    again = runner("write", write, Settings(text="a"), 0, {}, {})
    assert again.reused_from is None
    assert (runner.store.fetch(again.outputs["text"]) / "text").read_text() == "a"


def test_a_stage_that_failed_finds_its_checkpoint_and_leaves_nothing(runner: StageRunner) -> None:
    (runner.home / "fail").parent.mkdir(parents=True)
    (runner.home / "fail").touch()
    with pytest.raises(RuntimeError, match="out of luck"):
        runner("write", write, Settings(text="a"), 0, {}, {})
    (runner.home / "fail").unlink()
    assert runner("write", write, Settings(text="a"), 0, {}, {}).metrics == {"resumed": True}
    assert runner("write", write, Settings(text="b"), 0, {}, {}).metrics == {"resumed": False}
    assert not list((runner.home / "checkpoints").iterdir())
    assert not list((runner.home / "scratch").iterdir())


def test_two_processes_at_the_same_stage_do_its_work_once(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
import infra.stages as stages
from infra.store import Store
from infra.tracking import TrackingConfig

def slow(context, settings):
    time.sleep(2)
    (context.folder / "out").mkdir()
    (context.folder / "out" / "x").write_text("x")
    return stages.StageOutput({{"x": ("dataset", context.folder / "out")}}, {{}})

slow.__module__ = "infra.files"
store, home, tracking = Store({str(tmp_path / "store")!r}), Path({str(tmp_path)!r}), TrackingConfig(mode="disabled")
runner = stages.StageRunner(store, "r", home, tracking)
print(runner("slow", slow, tracking, 0, {{}}, {{}}).model_dump_json())
"""
    both = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    records = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert sorted(record["reused_from"] or "" for record in records) == ["", "r"]
