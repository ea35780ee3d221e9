"""Tracking with a server that is there, that refuses or that cannot be reached, and without the library's process."""

import io
import logging
import socket
from pathlib import Path

import pytest
from PIL import Image

from infra.tracking.tracker import TrackingMisconfigured
from tests.infra.tracking.tracked import KEY, all_rows, exit_code, history, server, tracker
from tests.infra.tracking.tracking_server import tracking_server

pytestmark = pytest.mark.usefixtures("own_library")


def test_a_stage_that_restarts_online_resumes_after_the_server_s_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with tracking_server() as (address, runs):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        for rows in (4, 9):
            with tracker(tmp_path, mode="online", patience_s=10) as run:
                for step in range(rows):
                    run.log({"loss": step / 2}, step)
            wandb.teardown()
    (sent,) = runs.values()
    assert sent.rows == all_rows(9)


def test_images_are_sent_with_captions_online_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    file = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(file, "PNG")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with tracking_server() as (address, runs):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        with tracker(tmp_path, mode="online", patience_s=10) as run:
            run.log({"loss": 0.5}, 0)
            run.images("prompts", [(file.getvalue(), "How many? 1")])
        with tracker(tmp_path / "offline", "run-2") as run:
            run.images("prompts", [(file.getvalue(), "How many? 1")])
        wandb.teardown()
    (sent,) = runs.values()
    (row,) = sent.rows
    assert row["loss"] == 0.5 and row["prompts"]["captions"] == ["How many? 1"]
    (name,) = row["prompts"]["filenames"]
    assert Image.open(io.BytesIO(sent.files[name])).size == (4, 3)
    assert not list((tmp_path / "offline").rglob("*.png"))


def test_online_without_a_key_is_an_error_and_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        server(200, monkeypatch) as requests,
        pytest.raises(TrackingMisconfigured, match=r"tracking.mode is 'online', but no .* key"),
        tracker(tmp_path, mode="online"),
    ):
        pass
    assert requests == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses_the_run_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with (
        server(status, monkeypatch) as requests,
        pytest.raises(TrackingMisconfigured, match=f"refused the run: .*{status}"),
        tracker(tmp_path, mode="online", patience_s=5),
    ):
        pass
    assert set(requests) == {"POST /graphql"}


@pytest.mark.parametrize("problem", ["nobody listens", "the server is broken"])
def test_a_server_that_does_not_answer_leaves_an_offline_run_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, problem: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with server(503, monkeypatch):
        if problem == "nobody listens":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                address = f"http://127.0.0.1:{free.getsockname()[1]}"
            for name in ("HTTP_PROXY", "http_proxy"):
                monkeypatch.delenv(name)
            monkeypatch.setenv("WANDB_BASE_URL", address)
        with caplog.at_level(logging.WARNING), tracker(tmp_path, mode="online", patience_s=1) as run:
            run.log({"loss": 1.0}, 0)
    assert "did not answer within 1 s" in caplog.text and "wandb sync" in caplog.text
    offline = tmp_path / "offline"
    offline.mkdir()
    (made,) = (tmp_path / "wandb").glob("offline-run-*")
    (offline / "wandb").mkdir()
    made.rename(offline / "wandb" / made.name)
    assert history(offline) == [{"_step": 0, "loss": 1.0}]
    assert exit_code(offline) == 0


def test_losing_the_librarys_process_does_not_end_the_stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The last of all: in this process the library does not come back from it."""
    import psutil

    with caplog.at_level(logging.WARNING), tracker(tmp_path) as run:
        run.log({"loss": 1.0}, 0)
        (core,) = [each for each in psutil.Process().children() if "wandb-core" in each.name()]
        core.kill()
        core.wait()
        for step in range(1, 200):
            run.log({"loss": 1.0}, step)
        run.summary({"loss": 1.0})
    assert caplog.text.count("continues untracked") == 1
