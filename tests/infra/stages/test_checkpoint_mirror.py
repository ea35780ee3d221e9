"""Checkpoints that reach another machine: against a real folder and against S3."""

import json
import os
import shutil
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.files import folder_written_aside
from infra.stages import checkpoint_mirror
from infra.stages.checkpoint_mirror import Mirror, mirrored
from infra.stages.lease import Lease
from infra.store.backend import Backend, StoreError
from infra.store.open import open_backend

KEY = "a" * 64


@pytest.fixture(params=["folder", "s3"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "folder":
        return open_backend(tmp_path / "store")
    request.getfixturevalue("s3")
    boto3.client("s3").create_bucket(Bucket="checkpoints")
    return open_backend(f"s3://checkpoints/{uuid.uuid4().hex}")


def save(folder: Path, iteration: int) -> None:
    """As steps/rl/checkpoint.py does: the samples, the state of the next iteration, and then older states go."""
    samples = folder / "samples"
    samples.mkdir(parents=True, exist_ok=True)
    (samples / f".{iteration}.part").write_bytes(b"half")
    (samples / f".{iteration}.whole").write_bytes(os.urandom(1000))
    os.replace(samples / f".{iteration}.whole", samples / f"{iteration:06d}.parquet")
    place = folder / f"{iteration + 1:06d}"
    with folder_written_aside(place) as aside:
        (aside / "model").mkdir()
        (aside / "model" / "weights").write_bytes(os.urandom(200_000))
        (aside / "state.json").write_text(str(iteration + 1))
    for other in folder.iterdir():
        if other not in (place, samples):
            shutil.rmtree(other)


def content(folder: Path) -> dict[str, bytes]:
    results = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: data for path, data in results.items() if not path.rpartition("/")[2].startswith(".")}


def test_a_stage_that_moves_resumes_from_its_last_checkpoint(backend: Backend, tmp_path: Path) -> None:
    here, there = tmp_path / "here" / KEY, tmp_path / "there" / KEY
    mirror = Mirror(backend, KEY, here)
    for iteration in range(3):
        save(here, iteration)
        assert mirror.copy()
        assert not mirror.copy(), "what is there already was copied again"
    Mirror(backend, KEY, there).fetch(tmp_path / "cache")
    assert content(there) == content(here)
    assert sorted(path.name for path in there.iterdir()) == ["000003", "samples"]
    assert not list((tmp_path / "cache").rglob("weights"))


def test_only_the_newest_checkpoint_is_kept(backend: Backend, tmp_path: Path) -> None:
    mirror = Mirror(backend, KEY, tmp_path / KEY)
    for iteration in range(4):
        save(tmp_path / KEY, iteration)
        mirror.copy()
    paths = [path.partition("/")[2] for path in backend.files(f"checkpoints/{KEY}") if "/" in path]
    samples = [f"samples/{iteration:06d}.parquet" for iteration in range(4)]
    assert sorted(paths) == ["000004/model/weights", "000004/state.json", *samples]


def test_a_copy_that_broke_off_leaves_the_one_before(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here" / KEY
    save(here, 0)
    mirror = Mirror(backend, KEY, here)
    mirror.copy()
    before = content(here)
    save(here, 1)

    def refuses(key: str, text: str) -> None:
        raise StoreError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(backend, "write_text", refuses)
        with pytest.raises(StoreError):
            mirror.copy()
    Mirror(backend, KEY, tmp_path / "there" / KEY).fetch(tmp_path / "cache")
    assert content(tmp_path / "there" / KEY) == before
    assert mirror.copy()
    batches = {path.partition("/")[0] for path in backend.files(f"checkpoints/{KEY}") if "/" in path}
    assert len(batches) == 2, "files of the copy that broke off are still there"


def test_checkpoints_are_copied_beside_the_stage_and_gone_when_it_is_done(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_mirror, "EVERY_S", 0.05)
    here, there = tmp_path / "here" / KEY, tmp_path / "there" / KEY
    with pytest.raises(RuntimeError), mirrored(backend, KEY, here, tmp_path / "cache"):
        save(here, 0)
        save(here, 1)
        raise RuntimeError("the node is gone")
    with mirrored(backend, KEY, there, tmp_path / "cache"):
        assert content(there) == content(here)
        save(there, 2)
    assert backend.files(f"checkpoints/{KEY}") == {}


def test_an_attempt_that_may_have_been_taken_over_deletes_nothing(backend: Backend, tmp_path: Path) -> None:
    save(tmp_path / "there" / KEY, 0)
    Mirror(backend, KEY, tmp_path / "there" / KEY).copy()
    before = backend.files(f"checkpoints/{KEY}")
    not_held = Lease(backend, KEY, "run")
    with mirrored(backend, KEY, tmp_path / "here" / KEY, tmp_path / "cache", not_held):
        pass
    assert backend.files(f"checkpoints/{KEY}") == before != {}


def test_what_is_on_this_machine_goes_before(backend: Backend, tmp_path: Path) -> None:
    here, there = tmp_path / "here" / KEY, tmp_path / "there" / KEY
    save(here, 0)
    Mirror(backend, KEY, here).copy()
    save(there, 5)
    own = content(there)
    with mirrored(backend, KEY, there, tmp_path / "cache"):
        assert content(there) == own


def test_a_store_that_refuses_does_not_stop_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_mirror, "EVERY_S", 0.02)
    backend = open_backend(tmp_path / "store")
    messages: list[str] = []
    monkeypatch.setattr(checkpoint_mirror, "say", messages.append)
    refused = threading.Event()

    def incoming(*arguments: Any) -> Any:
        refused.set()
        raise StoreError("503")

    with monkeypatch.context() as patch, mirrored(backend, KEY, tmp_path / KEY, tmp_path / "cache"):
        patch.setattr(backend, "incoming", incoming)
        save(tmp_path / KEY, 0)
        assert refused.wait(10)
        time.sleep(0.2)
    assert len(messages) == 1 and "503" in messages[0]


def test_a_broken_copy_gives_way_to_the_attempt_before_it_and_then_to_a_fresh_start(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    monkeypatch.setattr(checkpoint_mirror, "say", messages.append)
    first, second, there = (tmp_path / name / KEY for name in ("first", "second", "there"))
    save(first, 0)
    Mirror(backend, KEY, first).copy()
    time.sleep(1.1)  # S3 dates files by the second
    save(second, 5)
    index = {path for path in backend.files(f"checkpoints/{KEY}") if "/" not in path}
    with monkeypatch.context() as patch:
        patch.setattr(backend, "delete", lambda keys: None)  # as where it was killed before it took the first away
        Mirror(backend, KEY, second).copy()
    (newest,) = {path for path in backend.files(f"checkpoints/{KEY}") if "/" not in path} - index
    lost = backend.files(f"checkpoints/{KEY}")
    named = json.loads(backend.read(f"checkpoints/{KEY}/{newest}") or b"")["files"]
    batch = named["samples/000005.parquet"][0]
    assert f"{batch}/samples/000005.parquet" in lost
    backend.delete([f"checkpoints/{KEY}/{batch}/samples/000005.parquet"])
    Mirror(backend, KEY, there).fetch(tmp_path / "cache")
    assert content(there) == content(first)
    assert "samples/000005.parquet is missing" in messages[1] and "not used" in messages[1]
    shutil.rmtree(there)
    messages.clear()
    for one in index:
        backend.write_text(f"checkpoints/{KEY}/{one}", "{")
    with mirrored(backend, KEY, there, tmp_path / "cache"):
        assert not there.exists()
        assert any("is not an index of checkpoints" in one for one in messages)
        assert messages[-1] == "no checkpoint can be used: the stage starts from its beginning"
        save(there, 0)
    assert backend.files(f"checkpoints/{KEY}") == {}


def test_two_attempts_do_not_take_each_others_files_for_their_own(backend: Backend, tmp_path: Path) -> None:
    here, there = tmp_path / "here" / KEY, tmp_path / "there" / KEY
    for folder in (here, there):
        save(folder, 0)  # the same names and sizes, and other bytes
        Mirror(backend, KEY, folder).copy()
    Mirror(backend, KEY, tmp_path / "third" / KEY).fetch(tmp_path / "cache")
    assert content(tmp_path / "third" / KEY) == content(there)


def test_an_attempt_on_the_same_machine_sends_nothing_twice(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here" / KEY
    save(here, 0)
    Mirror(backend, KEY, here).copy()
    after = Mirror(backend, KEY, here)
    after.recognise()
    assert not after.copy()
    save(here, 1)
    assert after.copy()
    batches = {path.partition("/")[0] for path in backend.files(f"checkpoints/{KEY}") if "/" in path}
    assert len(batches) == 2, "samples of the attempt before were sent again"


def test_a_stage_that_saves_while_it_is_copied_is_copied_whole(tmp_path: Path) -> None:
    """Files go away under the copy's hands, again and again."""
    backend, here = open_backend(tmp_path / "store"), tmp_path / "here" / KEY
    mirror, over, seen = Mirror(backend, KEY, here), threading.Event(), set()

    def saves() -> None:
        for iteration in range(40):
            save(here, iteration)
            time.sleep(0.005)
        over.set()

    threading.Thread(target=saves).start()
    while not over.is_set():
        mirror.copy()
        there = tmp_path / "there"
        Mirror(backend, KEY, there).fetch(tmp_path / "cache")
        if not there.exists():
            continue
        samples = {path.name for path in (there / "samples").iterdir()}
        states = sorted(path.name for path in there.iterdir() if path.name != "samples")
        newest = int(states[-1]) if states else 0  # before the first state there are samples alone
        seen.add(newest)
        assert {f"{i:06d}.parquet" for i in range(newest)} <= samples <= {f"{i:06d}.parquet" for i in range(newest + 1)}
        if states:
            assert (there / states[-1] / "state.json").read_text() == str(newest)
            assert (there / states[-1] / "model" / "weights").stat().st_size == 200_000
        shutil.rmtree(there)
    assert len(seen) > 3, "hardly a state was copied"
