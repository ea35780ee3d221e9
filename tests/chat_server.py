"""An OpenAI-compatible server of prepared replies, over real sockets: what a client makes of them can then be seen."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the server answers with."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """Before it answers."""
    cut: bool = False
    """Whether the connection is closed in the middle of the body."""


def answer(content: Any, finish: str | None = "stop", tokens: int = 10, **message: Any) -> Reply:
    """A reply with one choice."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    return Reply(json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode())


@dataclass
class ChatServer:
    """A running server."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of all requests, in order."""
    keys: list[str | None] = field(default_factory=list)
    """Their Authorization headers."""
    most_at_once: int = 0

    def asked_for(self, text: str) -> int:
        """How many requests held this text."""
        return sum(text in json.dumps(request) for request in self.requests)


@contextmanager
def chat_server(script: Callable[[str, int], Reply]) -> Iterator[ChatServer]:
    """A server; `script` gets the question and how many times it was asked before."""
    lock = threading.Lock()
    turns: dict[str, int] = {}
    over = threading.Event()
    under_way = 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal under_way
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            question = body["messages"][-1]["content"]
            with lock:
                server.requests.append(body)
                server.keys.append(self.headers.get("Authorization"))
                turn = turns[question] = turns.get(question, -1) + 1
                under_way += 1
                server.most_at_once = max(server.most_at_once, under_way)
            reply = script(question, turn) if self.path == "/v1/chat/completions" else Reply(b"{}", 404)
            over.wait(reply.seconds)
            with lock:
                under_way -= 1
            try:
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body) + 100 * reply.cut))
                self.end_headers()
                self.wfile.write(reply.body)
            except OSError:  # the client has left
                return

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = ChatServer(f"http://127.0.0.1:{http.server_address[1]}/v1")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        over.set()
        http.shutdown()
        http.server_close()
        thread.join()
