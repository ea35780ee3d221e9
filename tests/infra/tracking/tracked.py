"""Runs that tests track, and what is in their files."""

import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra.tracking.tracker import Tracker, TrackingConfig

KEY = "a" * 40


def tracker(folder: Path, run_id: str = "run-1", **settings: Any) -> Tracker:
    return Tracker(
        TrackingConfig(**settings),
        run_id=run_id,
        run_name="run rl",
        group="run",
        job_type="long2short/rl",
        config={"key": "0a1b", "inputs": {"model": "c2d3"}, "settings": {"tau": 0.1}},
        folder=folder,
    )


def records(folder: Path) -> list[Any]:
    """Records of the only run in `folder`, once its end is there.

    The library's own process writes the file, and the last of it some milliseconds after a run is finished.
    """
    (path,) = (folder / "wandb").glob("*run-*/*.wandb")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        results = parsed(path.read_bytes())
        if any(each.HasField("exit") for each in results):
            return results
        time.sleep(0.01)
    raise AssertionError(f"{path} has no end")


def parsed(data: bytes) -> list[Any]:
    """Records of a run's file.

    It is a LevelDB log after a header of 7 bytes: blocks of 32 KiB of fragments, each with a checksum, a length and a
    kind (1 whole, 2 first, 3 middle, 4 last).
    """
    from wandb.proto import wandb_internal_pb2

    record_type: Any = vars(wandb_internal_pb2)["Record"]  # its stubs lack it

    at, whole, results = 7, b"", []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if left < 7 or kind == 0:
            at += left
            continue
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            results.append(record_type.FromString(whole))
            whole = b""
    return results


def items(rows: Any) -> dict[str, Any]:
    return {row.key or "/".join(row.nested_key): json.loads(row.value_json) for row in rows}


def history(folder: Path) -> list[dict[str, Any]]:
    """What was logged, without the library's own columns apart from the step."""
    rows = [items(each.history.item) for each in records(folder) if each.HasField("history")]
    return [{k: v for k, v in row.items() if k == "_step" or not k.startswith("_")} for row in rows]


def exit_code(folder: Path) -> int:
    (code,) = [each.exit.exit_code for each in records(folder) if each.HasField("exit")]
    return int(code)


@contextmanager
def server(status: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A tracking server, and proxy for all others, that answers everything alike. Yields the requests it saw."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_CONNECT = do_PUT = do_HEAD = do_POST

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{listening.server_port}"
    for name in ("WANDB_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, address)
    try:
        yield seen
    finally:
        listening.shutdown()
        listening.server_close()


def all_rows(count: int) -> list[dict[str, float]]:
    return [{"_step": step, "loss": step / 2} for step in range(count)]
