"""A PostgreSQL server of the tests' own, and an index in each kind of database."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from infra.lineage.index import LineageIndex
from infra.store.open import open_store
from infra.store.store import Store
from tests.postgresql import postgresql_server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Path]:
    """The folder with the socket of a server that only this machine's users reach."""
    with postgresql_server() as folder:
        yield folder


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an index may be kept: a file, or a database that is empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'index.sqlite'}"
    folder = request.getfixturevalue("postgresql")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(host=str(folder), user="longhaul", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql+psycopg://longhaul@/{name}?host={folder}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store without records."""
    return open_store(tmp_path / "store")


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], LineageIndex]]:
    """Opens the index; all that were opened are closed at the end."""
    made: list[LineageIndex] = []

    def open_index() -> LineageIndex:
        made.append(LineageIndex(url))
        return made[-1]

    yield open_index
    for index in made:
        index.close()
