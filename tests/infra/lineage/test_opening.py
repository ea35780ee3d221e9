"""An index that cannot be used: it is made again from the records, or a command makes one of its own, and says so."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from infra.lineage.index import index_file
from infra.lineage.opening import MEMORY, open_synced
from infra.lineage.tables import IndexUnusable
from infra.store.open import open_store
from infra.store.store import Store
from tests.infra.lineage.records import two_runs, write_history

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(tmp_path / "store")
    write_history(tmp_path / "store", two_runs().records)
    with closing(open_synced(store, tmp_path, None, print)[0]) as index:
        assert index.runs().total == 2
    return store


def execute(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(statement)
        connection.commit()


def overwrite_pages(file: Path) -> None:
    execute(file, "PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "another file": lambda file: file.write_text("this is not a database" * 1000),
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:5000]),
    "overwritten pages": overwrite_pages,
    "no table of runs": lambda file: execute(file, "DROP TABLE lineage_records"),
    "other columns": lambda file: execute(file, "ALTER TABLE lineage_meta RENAME COLUMN value TO other"),
    "a schema that is not a number": lambda file: execute(file, "UPDATE lineage_meta SET value = 'x'"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("rebuild", [False, True], ids=["sync", "rebuild"])
def test_a_damaged_index_is_rebuilt_and_that_is_said_in_a_line(
    damage: Callable[[Path], object], rebuild: bool, store: Store, tmp_path: Path
) -> None:
    file = index_file(store, tmp_path)
    damage(file)
    said: list[str] = []
    for expected in (1, 0):
        said.clear()
        index, synced = open_synced(store, tmp_path, None, said.append, rebuild)
        with closing(index):
            assert index.runs().total == 2 and synced.total > 10
        assert len(said) == expected
        assert all(f"{file} was damaged (" in line and "\n" not in line and "rebuilt" in line for line in said)


def replace_parent(file: Path) -> None:
    shutil.rmtree(file.parent)
    file.parent.write_text("")


@pytest.mark.parametrize("spoil", [make_folder, replace_parent], ids=["a folder", "no folder"])
def test_where_no_index_can_be_made_a_command_makes_one_of_its_own(
    spoil: Callable[[Path], None], store: Store, tmp_path: Path
) -> None:
    spoil(index_file(store, tmp_path))
    said: list[str] = []
    index, _ = open_synced(store, tmp_path, None, said.append)
    with closing(index):
        assert index.runs().total == 2
    (line,) = said
    assert "cannot be used (" in line and "this command makes one of its own" in line
    name = f"longhaul-lineage-{os.getpid()}-"
    assert any(entry.startswith(name) for entry in os.listdir(MEMORY))
    del index
    assert not any(entry.startswith(name) for entry in os.listdir(MEMORY))


def test_an_index_that_was_named_is_replaced_only_by_a_rebuild_and_only_if_it_is_one(
    store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "own.sqlite"
    url = f"sqlite:///{file}"
    open_synced(store, tmp_path, url, print)[0].close()
    execute(file, "DROP TABLE lineage_records")
    with pytest.raises(IndexUnusable, match="delete it, or name another"):
        open_synced(store, tmp_path, url, print)
    index, _ = open_synced(store, tmp_path, url, print, rebuild=True)
    with closing(index):
        assert index.runs().total == 2
    file.write_text("somebody's own notes" * 1000)
    with pytest.raises(IndexUnusable, match="not a database"):
        open_synced(store, tmp_path, url, print, rebuild=True)
    assert file.read_text().startswith("somebody's")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def longhaul(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LONGHAUL_HOME": str(home)}
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_commands_continue_on_a_disk_that_cannot_be_written(
    kind: str, store: Store, tmp_path: Path, small_disk: Path
) -> None:
    address = store.backend.address
    assert longhaul(small_disk, "runs", "--store", address).returncode == 0
    history = two_runs()
    more = [each for each in history.records if each[0].startswith("stages/")][:1]
    write_history(Path(address), more, first=1000)
    if kind == "full":
        with pytest.raises(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for arguments in (["runs"], ["lineage", "upstream", "first:rl"], ["lineage", "index", "--rebuild"]):
        done = longhaul(small_disk, *arguments, "--store", address)
        assert done.returncode == 0, done.stderr
        assert "this command makes one of its own" in done.stderr and "Traceback" not in done.stderr
    plan = longhaul(small_disk, "plan", "--config", "configs/smoke.yaml", "--set", f"store={address}")
    assert plan.returncode == 0 and "stages run" in plan.stdout, plan.stderr


def test_a_query_that_meets_damage_says_so_and_the_same_command_works_then(store: Store, tmp_path: Path) -> None:
    execute(index_file(store, tmp_path), "UPDATE lineage_executions SET body = x'00'")
    address = store.backend.address
    done = longhaul(tmp_path, "show", "first", "--store", address)
    assert done.returncode == 1 and "is deleted: the same command rebuilds it" in done.stderr
    assert "Traceback" not in done.stderr
    assert longhaul(tmp_path, "show", "first", "--store", address).returncode == 0
