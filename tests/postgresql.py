"""A PostgreSQL server of the tests' own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest


def _program(name: str) -> str | None:
    """Debian keeps the server's programs out of the path, one folder for each version."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(beside[-1]) if beside else shutil.which(name)


@contextmanager
def postgresql_server() -> Iterator[Path]:
    """The folder with the socket of a server that only this machine's users reach. Skips where there is no server."""
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
