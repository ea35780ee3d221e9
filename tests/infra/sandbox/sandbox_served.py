"""A sandbox's service in a thread, its client, and a sandbox whose runs end when a test says so."""

import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager

from infra.sandbox.client import SandboxClient
from infra.sandbox.interface import NO_FILES, Limits, Result, Sandbox
from infra.sandbox.runner import Runner
from infra.sandbox.service import Server, ServiceConfig


@contextmanager
def served(
    sandbox: Sandbox, slots: int = 1, token: str | None = None, **config: object
) -> Iterator[tuple[str, Server]]:
    """A service around a sandbox, in a thread: its address and its server."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        runner = Runner(sandbox, slots, ServiceConfig.model_validate(config))
        server = Server(runner, token)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join()
            runner.threads.shutdown()


@contextmanager
def client_of(url: str, token: str | None = None, patience_seconds: float = 20.0) -> Iterator[SandboxClient]:
    client = SandboxClient(url, token, patience_seconds)
    try:
        yield client
    finally:
        client.close()


class Held:
    """A sandbox whose runs end one by one, as they are let go; it notes which have started."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.let_go = threading.Semaphore(0)

    def run(
        self,
        program: str,
        stdin: str = "",
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        *,
        language: str = "python",
        files: Mapping[str, bytes] = NO_FILES,
    ) -> Result:
        self.started.append(stdin)
        assert self.let_go.acquire(timeout=20)
        return Result(stdin, "", 0, "finished", 0.01, None, None)

    def run_each(
        self,
        program: str,
        stdins: Iterable[str],
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        *,
        language: str = "python",
        files: Mapping[str, bytes] = NO_FILES,
    ) -> Generator[Result, None, None]:
        for stdin in stdins:
            yield self.run(program, stdin)

    def run_joined(self, first: str, second: str, *arguments: object, **options: object) -> tuple[Result, Result]:
        return self.run(first, "first"), self.run(second, "second")

    def close(self) -> None:
        pass


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.005)


def in_background(function: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """A thread, and a list that gets what the function returns or raises."""
    outcome: list[object] = []

    def work() -> None:
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, outcome
