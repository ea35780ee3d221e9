"""Telling a webhook: by a real server that answers late, wrongly, endlessly or not at all."""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from infra.notify import NotifyConfig, clean, notify


class Receiver:
    """A webhook. `answers` are its statuses in turn, the last one for ever; what was posted is in `posted`."""

    def __init__(self, answers: list[int], slow: Callable[[BaseHTTPRequestHandler], None] | None = None) -> None:
        self.posted: list[dict[str, object]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posted.append(json.loads(body))
                if slow is not None:
                    slow(self)
                    return
                status = answers[min(len(receiver.posted), len(answers)) - 1]
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{receiver.address}/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/hook/s3cret-path"


@contextmanager
def receiver(*answers: int, slow: Callable[[BaseHTTPRequestHandler], None] | None = None) -> Iterator[Receiver]:
    one = Receiver(list(answers), slow)
    thread = threading.Thread(target=one.server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    try:
        yield one
    finally:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.notify.PATIENCE_S", 0.3)
    monkeypatch.setattr("infra.notify.DEADLINE_S", 3.0)
    monkeypatch.setattr("infra.notify.random.uniform", lambda *_: 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_what_failed_is_posted_as_json() -> None:
    with receiver(200) as hook:
        assert notify(NotifyConfig(webhook=hook.address), {"run": "r", "stage": None, "error": "broke"})
    assert hook.posted == [{"run": "r", "stage": None, "error": "broke"}]


def test_a_server_in_trouble_is_tried_again_and_one_that_refuses_is_not(caplog: pytest.LogCaptureFixture) -> None:
    with receiver(500, 429, 200) as hook:
        assert notify(NotifyConfig(webhook=hook.address), {"run": "r"})
        assert len(hook.posted) == 3
    with receiver(503) as hook:
        assert not notify(NotifyConfig(webhook=hook.address), {"run": "r"})
        assert len(hook.posted) == 3
    assert "answered 503, 3 times" in caplog.text
    with receiver(404) as hook:
        assert not notify(NotifyConfig(webhook=hook.address), {"run": "r"})
        assert len(hook.posted) == 1


def test_a_redirect_is_not_followed() -> None:
    with receiver(302) as hook:
        assert not notify(NotifyConfig(webhook=hook.address), {"run": "r"})
        assert len(hook.posted) == 1


def test_a_server_that_is_not_there_or_never_answers_ends_in_time(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}/"
    assert not notify(NotifyConfig(webhook=nobody), {"run": "r"})
    assert "ConnectError, 3 times" in caplog.text
    done = threading.Event()

    def wait(_: object) -> None:
        done.wait(5)

    with receiver(slow=wait) as hook:
        start = time.monotonic()
        assert not notify(NotifyConfig(webhook=hook.address), {"run": "r"})
        assert time.monotonic() - start < 4.5
        done.set()
    assert "ReadTimeout, 3 times" in caplog.text


def test_a_server_that_answers_a_byte_at_a_time_is_left_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("infra.notify.DEADLINE_S", 0.8)
    done = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        while not done.wait(0.1):
            try:
                handler.wfile.write(b"H")
                handler.wfile.flush()
            except OSError:
                return

    with receiver(slow=drip) as hook:
        start = time.monotonic()
        assert not notify(NotifyConfig(webhook=hook.address), {"run": "r"})
        assert time.monotonic() - start < 5
        done.set()


def test_an_endless_body_is_not_read() -> None:
    sent: list[int] = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            sent.extend(handler.wfile.write(b"x" * 65536) for _ in range(10_000))
        except OSError:
            return

    with receiver(slow=endless) as hook:
        assert notify(NotifyConfig(webhook=hook.address), {"run": "r"})
    assert len(sent) < 1000


def test_the_address_is_said_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with receiver(500) as hook:
        monkeypatch.setenv("HOOK", hook.address)
        assert not notify(NotifyConfig(webhook="HOOK"), {"run": "r"})
    with receiver(200) as hook:
        monkeypatch.setenv("HOOK", hook.address)
        assert notify(NotifyConfig(webhook="HOOK"), {"run": "r"})
    assert "s3cret-path" not in caplog.text
    assert "127.0.0.1" in caplog.text


def test_secrets_and_control_characters_do_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcd1234efgh")
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    with receiver(200) as hook:
        message = {"error": "denied for abcd1234efgh\x1b[2J", "command": "longhaul run --set x=hf_0123456789"}
        assert notify(NotifyConfig(webhook=hook.address), message)
    assert hook.posted == [{"error": "denied for ***␛[2J", "command": "longhaul run --set x=***"}]
    assert clean("y" * 9000, {}).startswith("[…]yyy") and len(clean("y" * 9000, {})) < 4100
    assert clean("keep on", {"SSH_KEY": "on"}) == "keep on"


def test_a_webhook_that_cannot_be_is_refused_and_one_that_is_not_set_is_said(caplog: pytest.LogCaptureFixture) -> None:
    for bad in ("ftp://host/x", "https://", "hooks.example.com/x", ""):
        with pytest.raises(ValueError, match="expected https://HOST"):
            NotifyConfig(webhook=bad)
    with pytest.raises(ValueError, match="holds a password"):
        NotifyConfig(webhook="https://user:pass@host/x")
    assert not notify(NotifyConfig(webhook="LONGHAUL_NO_SUCH"), {"run": "r"})
    assert "LONGHAUL_NO_SUCH, which notify.webhook names, is not set" in caplog.text
