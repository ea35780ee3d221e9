"""Writers of the store that are many, killed, out of room, or whose files change."""

import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from infra.store.open import open_store
from infra.store.store import Ref, Store, StoreError
from tests.infra.store.store_common import contents, make_folder, s3_place


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(tmp_path / "store", tmp_path / "cache")
    request.getfixturevalue("s3")
    return open_store(s3_place(request.node.nodeid), tmp_path / "cache")


@pytest.mark.parametrize("change", [b"longer than it was", b"short", b"0123456789"])
def test_a_file_that_changes_while_it_is_stored_is_refused(
    tmp_path: Path, change: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "folder", weights="0123456789")
    store = open_store(tmp_path / "store")
    copy = shutil.copyfile

    def changing(source: Path, destination: Path) -> None:
        copy(source, destination)
        time.sleep(0.01)  # file systems tell times apart from some milliseconds on
        source.write_bytes(change)

    monkeypatch.setattr(shutil, "copyfile", changing)
    with pytest.raises(StoreError, match="weights changed while"):
        store.backend.incoming(folder, {"weights": 10}, lambda done: None).__enter__()
    assert contents(tmp_path / "store") == {}


def test_writers_of_the_same_folder_at_once_do_no_harm(store: Store, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", **{f"file{n}": str(n) * 1000 for n in range(20)})
    refs: list[Ref] = []

    def put_and_read() -> None:
        ref = store.put(folder, "model")
        store.verify(ref)
        assert contents(store.fetch(ref)) == contents(folder)
        refs.append(ref)

    threads = [threading.Thread(target=put_and_read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refs) == 4
    assert len(set(refs)) == 1


def test_a_full_disk_is_reported_with_the_path_and_leaves_nothing(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", weights="x" * 100_000)
    store = open_store(tmp_path / "store")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # Writes beyond the limit fail as they do on a full disk, in the same system call.
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"weights: File too large"):
            store.put(folder, "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(contents(tmp_path / "store")) == ["store.json"]


WRITER = """
import sys
from pathlib import Path
from infra.store.open import open_store
store = open_store(sys.argv[1], Path(sys.argv[2]))
for turn in range(3):
    ref = store.put(Path(sys.argv[3]), "model")
    store.verify(ref)
    assert store.fetch(ref).is_dir()
    store.write_record("runs/shared", {"process": sys.argv[4], "turn": turn})
print(ref.digest)
"""


def test_processes_that_put_and_fetch_the_same_folder_at_once_do_no_harm(store: Store, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", **{f"file{n}": str(n) * 1000 for n in range(10)})
    places = [store.backend.address, str(tmp_path / "cache"), str(folder)]
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, *places, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(2)
    ]
    digests = [process.communicate()[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    ref = store.put(folder, "model")
    assert digests == [ref.digest] * 2
    store.verify(ref)
    records = store.read_records("runs/shared")
    assert len(records) == 6
    assert [record["turn"] for record in records if record["process"] == "1"] == [0, 1, 2]
    assert store.backend.leftovers() == []


KILLED = """
import os, infra.store.local
infra.store.local.sync_folder = lambda folder: os.kill(os.getpid(), 9)
"""


def test_a_writer_that_is_killed_leaves_nothing_visible_and_the_next_put_is_whole(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", **{f"file{n}": str(n) * 1000 for n in range(10)})
    program = WRITER.replace(
        "store =", "import os, infra.store.local as b\nb.sync_folder = lambda f: os.kill(os.getpid(), 9)\nstore ="
    )
    places = [str(tmp_path / "store"), str(tmp_path / "cache"), str(folder)]
    assert subprocess.run([sys.executable, "-c", program, *places, "0"], check=False).returncode == -9
    assert not list((tmp_path / "store").rglob("manifest.json"))
    store = open_store(tmp_path / "store")
    assert contents(store.fetch(store.put(folder, "model"))) == contents(folder)
