"""A PostgreSQL server of the tests' own, and an index in each kind of database."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from infra.lineage.index import LineageIndex
from infra.store.open import open_store
from infra.store.store import Store


def _program(name: str) -> str | None:
    """Debian keeps the server's programs out of the path, one folder for each version."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(beside[-1]) if beside else shutil.which(name)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Path]:
    """The folder with the socket of a server that only this machine's users reach."""
    initdb, server = _program("initdb"), _program("postgres")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL's server is not installed")
    # The server refuses to run as root, and pytest's own folders let nobody else in.
    folder = Path(tempfile.mkdtemp(prefix="longhaul-pg-", dir="/tmp"))
    user: list[str] = []
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    data = folder / "data"
    make = [*user, initdb, "-D", str(data), "-U", "longhaul", "--auth=trust", "-E", "UTF8", "--no-locale", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder)
    settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    process = subprocess.Popen(
        [*user, server, "-D", str(data), *settings], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(folder, process)
        yield folder
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(folder: Path, process: "subprocess.Popen[bytes]") -> None:
    while True:
        assert process.poll() is None, "the PostgreSQL server ended at its start"
        try:
            psycopg.connect(host=str(folder), user="longhaul", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            continue


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
