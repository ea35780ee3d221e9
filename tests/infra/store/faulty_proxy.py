"""An HTTP proxy before an S3 server that does to requests what networks and overloaded servers do.

It also does what S3 does and moto does not: it refuses a body that does not have the SHA-256 that its header announces,
and a part of an upload that is gone.
"""

import base64
import hashlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, cast
from urllib.parse import urlsplit

CHECKSUM = "x-amz-checksum-sha256"
HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}
Kind = Literal["500", "503", "drop request", "drop response", "flip request", "flip response", "slow", "stall"]


@dataclass
class Fault:
    """Something that happens to the first `times` requests that match."""

    kind: Kind
    method: str
    part_of_path: str
    """Text in the path, or in the Range header."""
    times: int = 1_000_000


@dataclass
class Seen:
    """A request that arrived, and how it was answered (0: not at all)."""

    method: str
    path: str
    size: int
    range: str | None
    status: int = 0


@dataclass
class FaultyProxy:
    """Running proxy; faults may be added and removed meanwhile."""

    upstream: str
    checks_checksums: bool = True
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    before: Callable[[Seen], None] | None = None
    """Called with each request before it is forwarded."""
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, method: str, path: str) -> Kind | None:
        """What is to happen to a request."""
        with self._lock:
            for fault in self.faults:
                if fault.times and fault.method == method and fault.part_of_path in path:
                    fault.times -= 1
                    return fault.kind
        return None

    def sent(self, method: str, part_of_path: str = "") -> list[Seen]:
        """The requests that arrived."""
        return [seen for seen in self.seen if seen.method == method and part_of_path in seen.path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _handle(self) -> None:
        proxy = cast("_Server", self.server).proxy
        size = int(self.headers.get("Content-Length", 0))
        kind = proxy.fault(self.command, f"{self.path} {self.headers.get('Range')}")
        seen = Seen(self.command, self.path, size, self.headers.get("Range"))
        proxy.seen.append(seen)
        if kind == "drop request":
            self.rfile.read(size // 2)
            return self._drop()
        sent = self.rfile.read(size)
        if proxy.before is not None:
            proxy.before(seen)
        if kind in ("500", "503"):
            seen.status = int(kind)
            return self._answer(int(kind), {}, _error("InternalError" if kind == "500" else "SlowDown"))
        body = _flipped(sent) if kind == "flip request" else sent
        announced = self.headers.get(CHECKSUM)
        arrived = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if proxy.checks_checksums and announced not in (None, arrived):
            seen.status = 400
            return self._answer(400, {}, _error("BadDigest"))
        headers = {k: v for k, v in self.headers.items() if k.lower() not in {"connection", "expect"}}
        if not proxy.checks_checksums:
            headers = {k: v for k, v in headers.items() if not k.lower().startswith(("x-amz-checksum", "x-amz-sdk"))}
        connection = http.client.HTTPConnection(urlsplit(proxy.upstream).netloc, timeout=30)
        connection.request(self.command, self.path, body, headers)
        reply = connection.getresponse()
        data, seen.status = reply.read(), reply.status
        connection.close()
        if reply.status == 500 and "uploadId=" in self.path:
            seen.status = 404  # moto fails where an upload is gone
            return self._answer(404, {}, _error("NoSuchUpload"))
        answer = {k: v for k, v in reply.getheaders() if k.lower() not in HOP}
        if self.command == "HEAD":
            answer["Content-Length"] = reply.getheader("Content-Length", "0")
        if kind == "flip response":
            data = _flipped(data)
        self._answer(reply.status, answer, data, kind)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle

    def _answer(self, status: int, headers: dict[str, str], data: bytes, kind: Kind | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(data) // 2
        if kind == "slow":
            step = max(1, len(data) // 10)
            for start in range(0, len(data), step):
                self.wfile.write(data[start : start + step])
                time.sleep(0.02)
            return
        if kind in ("drop response", "stall"):
            self.wfile.write(data[:half])
            if kind == "stall":
                time.sleep(3)
            return self._drop()
        self.wfile.write(data)

    def _drop(self) -> None:
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: FaultyProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is part of the game."""


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data


def _error(code: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """A proxy before the server at a URL, on a free port of loopback."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.proxy = FaultyProxy(upstream)
    server.proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
