"""Tracking with the real library: what is logged is in the run's file, and offline nothing is sent anywhere."""

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.store.store import Ref
from infra.tracking import offline_runs
from infra.tracking.tracker import TrackingConfig, TrackingMisconfigured
from tests.infra.tracking.tracked import KEY, all_rows, exit_code, history, items, parsed, records, server, tracker
from tests.infra.tracking.tracking_server import tracking_server

pytestmark = pytest.mark.usefixtures("own_library")
MODEL = Ref(kind="model", digest="e" * 64, address="s3://bucket/store/objects/ee/content", files=3, size=700)


def test_what_is_logged_offline_is_read_back_from_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")  # the recipe decides, not what the shell happens to hold
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with server(200, monkeypatch) as requests:
        with tracker(tmp_path) as run:
            for step in range(3):
                run.log({"rl/accuracy": step / 4, "rl/tokens": 100 * step}, step)
            run.summary({"outputs": {"model": "e4f5"}, "accuracy": 0.5})
        assert requests == []
    assert history(tmp_path) == [{"_step": step, "rl/accuracy": step / 4, "rl/tokens": 100 * step} for step in range(3)]
    actual = records(tmp_path)
    (started,) = [each.run for each in actual if each.HasField("run")]
    assert (started.run_id, started.display_name, started.run_group) == ("run-1", "run rl", "run")
    assert (started.project, started.job_type) == ("longhaul", "long2short/rl")
    config = items(started.config.update)
    assert (config["key"], config["inputs"], config["settings"]) == ("0a1b", {"model": "c2d3"}, {"tau": 0.1})
    summary: dict[str, Any] = {}
    for each in actual:
        if each.HasField("summary"):
            summary |= items(each.summary.update)
    assert summary["accuracy"] == 0.5
    assert summary.get("outputs", summary.get("outputs/model")) in ({"model": "e4f5"}, "e4f5")
    assert exit_code(tmp_path) == 0
    assert capfd.readouterr() == ("", "")
    # No code, no package list, no machine information.
    (folder,) = (tmp_path / "wandb").iterdir()
    assert [path for path in (folder / "files").rglob("*") if path.is_file()] == []


def test_a_stage_that_fails_is_a_failed_run_and_its_error_is_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="boom"), tracker(tmp_path) as run:
        run.log({"loss": 1.0}, 0)
        raise KeyError("boom")
    assert exit_code(tmp_path) == 1
    assert history(tmp_path) == [{"_step": 0, "loss": 1.0}]


def test_a_stage_may_start_again_under_the_same_id_in_the_same_process(tmp_path: Path) -> None:
    for attempt in ("first", "second"):
        with tracker(tmp_path / attempt) as run:
            run.log({"loss": 1.0}, 0)
        assert history(tmp_path / attempt) == [{"_step": 0, "loss": 1.0}]


def attempt_that_is_killed(folder: Path, rows: int) -> None:
    """A stage that logs rows and is killed two seconds later."""
    program = f"""
import os, time
from pathlib import Path
from tests.infra.tracking.tracked import tracker
with tracker(Path({str(folder)!r})) as run:
    for step in range({rows}):
        run.log({{"loss": step / 2}}, step)
    time.sleep(2)
    os.kill(os.getpid(), {signal.SIGKILL.value})
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_a_stage_killed_again_and_again_has_every_step_once_when_uploaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rows in (5, 8):
        attempt_that_is_killed(tmp_path, rows)
    with tracker(tmp_path) as run:
        for step in range(10):
            run.log({"loss": step / 2}, step)
        run.outputs({"model": MODEL})
    with tracking_server() as (address, runs):
        folders = sorted(map(str, (tmp_path / "wandb").glob("offline-run-*")))
        assert len(folders) == 3
        environment = {**os.environ, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": address}
        command = [sys.executable, "-m", "wandb", "sync", *folders]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    (sent,) = runs.values()
    assert sent.rows == all_rows(10)
    assert sent.summary["outputs"] == {"model": MODEL.digest}
    assert json.loads(sent.config)["key"]["value"] == "0a1b"
    assert sent.artifacts == [{"name": "long2short-rl-model", "type": "model", "metadata": MODEL.model_dump()}]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 40_000), max_size=6), st.integers(0, 300), st.randoms())
def test_a_run_file_that_was_cut_off_anywhere_is_read_up_to_there(sizes: list[int], cut: int, rng: Random) -> None:
    from wandb.proto import wandb_internal_pb2

    record_type: Any = vars(wandb_internal_pb2)["Record"]  # its stubs lack it
    written = [record_type(num=number, uuid=rng.choice("ab") * size) for number, size in enumerate(sizes)]
    data = in_blocks([each.SerializeToString() for each in written])
    assert list(offline_runs.records(data)) == written
    actual = list(offline_runs.records(data[: max(7, len(data) - cut)]))
    assert actual == written[: len(actual)]
    assert len(actual) >= len(written) - cut  # each takes a byte at least


def in_blocks(texts: list[bytes]) -> bytes:
    """A LevelDB log, with checksums left out."""
    data = b":W&B\0\0\0"
    for text in texts:
        first = True
        while True:
            left = 32768 - len(data) % 32768
            if left < 7:
                data += bytes(left)
                continue
            piece, text = text[: left - 7], text[left - 7 :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[first, not text]
            data += struct.pack("<IHB", 0, len(piece), kind) + piece
            first = False
            if not text:
                break
    return data


def test_outputs_are_artifacts_that_refer_to_the_store_and_nothing_of_them_is_read(tmp_path: Path) -> None:
    saved = tmp_path / "st ore[#1]" / "content"
    saved.mkdir(parents=True)
    os.mkfifo(saved / "weights é.bin")  # whoever reads it waits for ever
    local = MODEL.model_copy(update={"kind": "dataset", "digest": "b" * 64, "address": str(saved), "files": 1})
    with tracker(tmp_path) as run:
        run.outputs({"model": MODEL, "led/ger": local})
    actual = records(tmp_path)
    logged = [each.artifact for each in actual if each.HasField("artifact")]
    assert [(each.name, each.type) for each in logged] == [
        ("long2short-rl-model", "model"),
        ("long2short-rl-led-ger", "dataset"),
    ]
    assert [json.loads(each.metadata) for each in logged] == [MODEL.model_dump(), local.model_dump()]
    (model,), (file,) = (each.manifest.contents for each in logged)
    assert (model.ref, model.size) == (MODEL.address, 0)
    assert file.path == "weights é.bin" and url2pathname(urlparse(file.ref).path) == str(saved / "weights é.bin")
    summary: dict[str, Any] = {}
    for each in actual:
        if each.HasField("summary"):
            summary |= items(each.summary.update)
    assert summary["outputs"] == {"model": MODEL.digest, "led/ger": "b" * 64}
    # What is written aside of an artifact is not left behind, and nothing is kept in the user's home.
    assert not [path for path in (tmp_path / "library" / "artifacts").rglob("*") if path.is_file()]
    assert not (tmp_path / "home").exists()


def test_a_step_that_goes_back_is_an_error(tmp_path: Path) -> None:
    with tracker(tmp_path, mode="disabled") as run:
        run.log({"loss": 1.0}, 3)
        run.log({"loss": 1.0}, 3)
        with pytest.raises(ValueError, match="step 2 is logged after step 3"):
            run.log({"loss": 1.0}, 2)


def test_metrics_a_second_old_survive_a_stage_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import os, time
from pathlib import Path
from tests.infra.tracking.tracked import tracker
with tracker(Path({str(tmp_path)!r})) as run:
    for step in range(5):
        run.log({{"loss": 1.0}}, step)
    time.sleep(2)
    os.kill(os.getpid(), {signal.SIGKILL.value})
"""
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": root}, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    (path,) = (tmp_path / "wandb").glob("*/*.wandb")
    retained = [items(each.history.item) for each in parsed(path.read_bytes()) if each.HasField("history")]
    # The library holds the newest row back until the next step begins.
    assert [row["_step"] for row in retained][:4] == [0, 1, 2, 3]


def test_disabled_writes_nothing_and_does_not_load_the_library(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from infra.tracking.tracker import Tracker, TrackingConfig
with Tracker(TrackingConfig(mode="disabled"), run_id="r", run_name="r", group="g", job_type="j", config={},
             folder=Path("absent")) as run:
    run.log({"loss": 1.0}, 0)
    run.summary({"loss": 1.0})
assert "wandb" not in sys.modules
assert not Path("absent").exists()
"""
    path = str(Path(__file__).parents[3])
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=60)


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_metric_that_is_not_a_number_is_refused_by_name(tmp_path: Path, mode: str) -> None:
    with pytest.raises(TypeError, match="metric 'rl/accuracy' is a str"), tracker(tmp_path, mode=mode) as run:
        run.log({"rl/accuracy": "high"}, 0)  # type: ignore[dict-item]


def test_settings_that_cannot_be_are_refused() -> None:
    for refused in ({"mode": "sometimes"}, {"project": ""}, {"patience_s": 0}, {"proyect": "x"}):
        with pytest.raises(ValidationError):
            TrackingConfig.model_validate(refused)


def test_an_id_that_cannot_be_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrackingMisconfigured, match="Run ID cannot contain"), tracker(tmp_path, run_id="a/b"):
        pass


def test_a_folder_that_cannot_be_made_is_an_error_rather_than_another_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingMisconfigured, match=r"file.* cannot be written"), tracker(tmp_path / "file" / "below"):
        pass
