"""The server of the lineage page as a process of its own."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from infra.lineage.rows import SyncResult
from infra.lineage.web.server import Follower
from infra.store.store import Store
from tests.infra.lineage.records import History, write_history
from tests.infra.lineage.web.page_site import FIRST, client, made_up_site

SERVE = """
import os, resource, sys, threading, time
from pathlib import Path
from infra.lineage.index import LineageIndex
from infra.lineage.web.server import ServerConfig, serve
from infra.lineage.web.site import Site
from infra.store.open import open_store

root = Path(sys.argv[1])
store = open_store(root / "store")
index = LineageIndex.of(store, root / "home")
index.sync(store)
config = ServerConfig(host=sys.argv[2], port=0)
token = sys.argv[3] or None
if len(sys.argv) > 4:  # few file descriptors, and none at all for a while, once standard input says so
    resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))

    def use_all() -> None:
        sys.stdin.readline()
        opened = []
        until = time.monotonic() + 3
        while time.monotonic() < until:
            try:
                opened.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                time.sleep(0.01)
        for each in opened:
            os.close(each)
        print("free", flush=True)

    threading.Thread(target=use_all, daemon=True).start()
say = lambda text: print(text, flush=True)
serve(Site.of(store, index, root / "home"), config, token, say, lambda text: print(text, file=sys.stderr, flush=True))
"""


@contextmanager
def server(
    root: Path, host: str = "127.0.0.1", token: str = "", *more: str
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server's process and its address."""
    command = [sys.executable, "-c", SERVE, str(root), host, token, *more]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            address = process.stdout.readline().strip()
            yield process, address
        finally:
            process.kill()


def test_new_records_are_announced_within_seconds_and_it_ends_when_terminated(tmp_path: Path) -> None:
    history = History()
    history.add_run(FIRST)
    number = write_history(tmp_path / "store", history.records)
    with server(tmp_path) as (process, address):
        assert FIRST in httpx.get(f"{address}/runs").text
        more = History()
        more.add_run("20260202-000000-later", minutes=10)
        write_history(tmp_path / "store", more.records, first=number)
        wait_for(lambda: "20260202-000000-later" in httpx.get(f"{address}/runs").text)
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        assert "Traceback" not in (process.stderr.read() if process.stderr else "")


def test_beyond_loopback_it_listens_with_a_token_and_for_known_names_only(tmp_path: Path) -> None:
    with server(tmp_path, "0.0.0.0") as (process, address):
        assert address == "" and process.wait(10) != 0
        assert "TokenRefused" in (process.stderr.read() if process.stderr else "")
    token = "a-token-of-some-length"
    with server(tmp_path, "0.0.0.0", token) as (_, address):
        assert httpx.get(f"{address}/runs").status_code == 401
        assert httpx.get(f"{address}/runs", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert httpx.get(f"{address}/runs", headers={"Host": "0.0.0.0"}).status_code == 400


def half_sent(address: str, count: int) -> list[socket.socket]:
    """Connections with a part of a request's headers."""
    parsed = httpx.URL(address)
    connections = []
    for _ in range(count):
        connections.append(socket.create_connection((parsed.host, parsed.port or 0), timeout=10))
        with suppress(OSError):
            connections[-1].sendall(b"GET /runs HTTP/1.1\r\nHost: ")
    return connections


def test_slow_clients_shut_nobody_out_and_a_lack_of_file_descriptors_ends_requests_only(tmp_path: Path) -> None:
    with server(tmp_path, "127.0.0.1", "", "few descriptors") as (process, address), ExitStack() as stack:
        for connection in half_sent(address, 300):
            stack.callback(connection.close)
        for _ in range(3):
            assert httpx.get(f"{address}/runs", timeout=10).status_code == 200
        assert process.stdin and process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(0.5)
        for _ in range(4):
            with suppress(httpx.HTTPError):
                httpx.get(f"{address}/runs", timeout=0.5)
        assert process.stdout.readline() == "free\n" and process.poll() is None
        assert httpx.get(f"{address}/runs", timeout=10).status_code == 200


def test_a_store_out_of_reach_is_reported_once_and_found_again(tmp_path: Path) -> None:
    site = made_up_site(tmp_path)
    records = tmp_path / "store" / "records"
    messages: list[str] = []
    with Follower(site, messages.append, seconds=0.02):
        records.rename(tmp_path / "aside")
        records.write_text("no folder")
        wait_for(lambda: bool(messages))
        time.sleep(0.3)
        assert len(messages) == 1 and "records" in messages[0] and client(site).get("/runs").status_code == 200
        records.unlink()
        (tmp_path / "aside").rename(records)
        more = History()
        more.add_run("20260202-000000-later", minutes=10)
        write_history(tmp_path / "store", more.records, first=1000)
        wait_for(lambda: site.index.runs("later").total == 1)


def test_whatever_a_sync_raises_is_reported_once_and_later_records_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = made_up_site(tmp_path)
    failing = [KeyError("odd"), KeyError("odd"), MemoryError(), RecursionError("too deep"), AssertionError()]
    sync = site.index.sync
    messages: list[str] = []

    def fails_at_first(store: Store) -> SyncResult:
        if failing:
            raise failing.pop(0)
        return sync(store)

    monkeypatch.setattr(site.index, "sync", fails_at_first)
    more = History()
    more.add_run("20260202-000000-later", minutes=10)
    write_history(tmp_path / "store", more.records, first=1000)
    with Follower(site, messages.append, seconds=0.02):
        wait_for(lambda: site.index.runs("later").total == 1)
    names = ["KeyError('odd')", "MemoryError()", "RecursionError('too deep')", "AssertionError()"]
    assert messages == [f"the index cannot be updated: {name}" for name in names]


def wait_for(there: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until
        time.sleep(0.05)
