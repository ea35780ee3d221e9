"""The database that an index is kept in: where it may be, whose it is, and several connections to it at once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, select, text

from infra.lineage.errors import LineageError
from infra.lineage.index import LineageIndex
from infra.lineage.tables import meta, metadata, reading
from infra.lineage.web.neighbourhood import neighbourhood_of
from infra.store.open import open_store
from infra.store.store import Store
from tests.infra.lineage.records import History, Opened, big_history, indexed, two_runs, write_history


def test_an_index_of_a_newer_schema_is_refused_and_an_older_one_rebuilt(opened: Opened, store: Store, url: str) -> None:
    index = indexed(opened, store, two_runs())
    with index.engine.begin() as connection:
        connection.execute(text("UPDATE lineage_meta SET value = '99' WHERE name = 'schema'"))
    with pytest.raises(LineageError, match="schema 99; this one knows up to"):
        opened()
    with index.engine.begin() as connection:
        connection.execute(text("UPDATE lineage_meta SET value = '0' WHERE name = 'schema'"))
    older = opened()
    assert older.runs().total == 0
    older.sync(store)
    assert older.runs().total == 2


def test_an_index_does_not_mix_two_stores(opened: Opened, store: Store, tmp_path: Path) -> None:
    index = indexed(opened, store, two_runs())
    other = open_store(tmp_path / "other")
    with pytest.raises(LineageError, match=r"is of the store .*store, not of .*other.*--rebuild"):
        index.sync(other)
    index.rebuild(other)
    assert index.runs().total == 0


def test_the_default_index_is_one_for_each_store(tmp_path: Path) -> None:
    first = LineageIndex.of(open_store(tmp_path / "a"), tmp_path / "home")
    second = LineageIndex.of(open_store(tmp_path / "b"), tmp_path / "home")
    again = LineageIndex.of(open_store(tmp_path / "a"), tmp_path / "home")
    assert first.engine.url == again.engine.url != second.engine.url


@pytest.mark.parametrize("url", ["mysql://somewhere/x", "postgresql://localhost/x", "index.sqlite", ""])
def test_another_kind_of_address_is_refused(url: str) -> None:
    with pytest.raises(LineageError, match=r"sqlite:///FILE or postgresql\+psycopg://"):
        LineageIndex(url)


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all/index.sqlite", "postgresql+psycopg://someone:secret@127.0.0.1:1/x"]
)
def test_a_database_that_cannot_be_opened_is_named_without_its_password(url: str) -> None:
    with pytest.raises(LineageError, match="cannot be used") as caught:
        LineageIndex(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "index.sqlite"
    file.write_text("this is not a database, but it is long enough to be taken for one" * 100)
    with pytest.raises(LineageError, match=r"index\.sqlite cannot be used.*not a database"):
        LineageIndex(f"sqlite:///{file}")


SYNC = """
import sys
from infra.lineage.index import LineageIndex
from infra.store.open import open_store
index, store = LineageIndex(sys.argv[1]), open_store(sys.argv[2])
for _ in range(3):
    print(index.sync(store).new, flush=True)
"""


def test_processes_that_sync_at_once_add_each_record_once(opened: Opened, store: Store, url: str) -> None:
    root = Path(store.backend.address)
    written = write_history(root, big_history(runs=60))
    processes = [
        subprocess.Popen([sys.executable, "-c", SYNC, url, str(root)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    added = [int(line) for process in processes for line in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(added) == 9
    assert sum(added) == written
    index = opened()
    assert index.sync(store).new == 0
    assert index.runs().total == 60


READS: list[Callable[[LineageIndex], object]] = [
    lambda index: index.neighbourhood("run:second"),
    lambda index: index.upstream("execution:second:rl"),
    lambda index: neighbourhood_of(index, "execution:second:rl", 3, ["execution:first:data", "\0"]),
    lambda index: index.models(),
]


@pytest.mark.parametrize("ask", READS, ids=["neighbourhood", "upstream", "nearby", "models"])
def test_an_answer_that_has_begun_is_of_one_state_whatever_others_commit(
    ask: Callable[[LineageIndex], object], opened: Opened, store: Store
) -> None:
    root, history = Path(store.backend.address), two_runs()
    earlier = [each for each in history.records if each[0].endswith("first") or "first" in getattr(each[1], "run", "")]
    index, other = opened(), opened()
    # What happened last arrives first: a rebuild gives all nodes other numbers.
    write_history(root, [each for each in history.records if each not in earlier], first=len(earlier))
    index.sync(store)
    write_history(root, earlier)
    index.sync(store)
    expected, requested = ask(index), 0

    def others_write(*arguments: Any) -> None:
        nonlocal requested
        requested += arguments[2].startswith("SELECT")
        if requested == 1:
            other.rebuild(store)
            more = History()
            more.add_run("third", minutes=120)
            write_history(root, more.records, first=len(history.records))
            other.sync(store)

    event.listen(index.engine, "after_cursor_execute", others_write)
    same = ask(index) == expected  # telling two graphs apart in words would take minutes
    assert same and requested > 1
    assert index.runs().total == 3


def test_a_reader_sees_neither_half_of_a_rebuild(opened: Opened, store: Store, tmp_path: Path) -> None:
    def counts(connection: Connection) -> list[int]:
        tables = (table for table in metadata.sorted_tables if table is not meta)
        return [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]

    index, other = indexed(opened, store, two_runs()), opened()
    with reading(index.engine) as connection:
        before = counts(connection)
        assert min(before[:2]) > 0
        other.rebuild(open_store(tmp_path / "other"))
        assert counts(connection) == before
    with reading(index.engine) as connection:
        assert set(counts(connection)) == {0}
