"""A sandbox elsewhere: the same interface as the ones here, over HTTP to a service (infra/sandbox/service.py)."""

import json
import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import NoReturn

import httpx

from infra.sandbox.interface import NO_FILES, Limits, Result, SandboxUnavailable
from infra.sandbox.messages import WAIT_SECONDS, longest_line, parse_line, request_body
from infra.sandbox.token import HOW_TO_SET_A_TOKEN

_BATCH_CHARACTERS = 2 * 2**20  # at most 12 MiB as JSON, which a service takes
_BATCH_RUNS = 1000
_CONNECT_SECONDS = 5.0
_WRITE_SECONDS = 30.0
_OVERHEAD_SECONDS = 30.0
"""What a run may take longer than its wall seconds: making an image, or compiling."""

_AGAIN = (429, 502, 503, 504)
_LONGEST_ERROR = 64 * 1024


class _Again(Exception):
    """Nothing is wrong with the request: the same one may be served later."""

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


class _Patience:
    """Waits between attempts, longer each time, and gives up after a while without any result."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        # Of its own: the global one belongs to what a run's seed decides.
        self._random = random.Random()
        self.reset()

    def reset(self) -> None:
        """A result came."""
        self._started = time.monotonic()
        self._attempts = 0

    def wait(self, again: _Again) -> None:
        """Wait before the next attempt. Raises SandboxUnavailable where there should be none."""
        self._attempts += 1
        pause = min(5.0, 0.1 * 2**self._attempts) * self._random.uniform(0.5, 1.0)
        pause = max(pause, again.seconds)
        if time.monotonic() - self._started + pause > self._seconds:
            raise SandboxUnavailable(
                f"the sandbox's service at {self._url} has not answered for {self._seconds:.0f} s: {again}"
            ) from again
        time.sleep(pause)


class SandboxClient:
    """A sandbox's service. Safe to call from several threads, which share its connections.

    A refusal for now (the queue is full, the service drains) or a lost connection is tried again, for at most
    `patience_seconds` without a result; then SandboxUnavailable is raised. Runs whose result did not arrive are then
    run once more, in another box. Raises ValueError for what the service refuses as malformed, limits above its maxima
    for one: that is the caller's mistake and no program's.
    """

    def __init__(self, url: str, token: str | None = None, patience_seconds: float = 120.0) -> None:
        self._url = url.rstrip("/")
        self._patience_seconds = patience_seconds
        try:
            parsed = httpx.URL(self._url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{url!r} is not the address of a sandbox's service: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"{url!r} is not the address of a sandbox's service; expected http://HOST:PORT")
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            headers=headers,
            # Idle connections end here before they do there, where a request could be on its way by then.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=3.0),
            # No proxy of the environment hears of the token.
            trust_env=False,
        )

    def run(
        self,
        program: str,
        stdin: str = "",
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        *,
        language: str = "python",
        files: Mapping[str, bytes] = NO_FILES,
    ) -> Result:
        """See `Sandbox.run`."""
        body = request_body(limits, program=program, stdin=stdin, language=language, files=files)
        (result,) = self._results("/v1/run", 1, lambda done: body, limits)
        return result

    def run_each(
        self,
        program: str,
        stdins: Iterable[str],
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        *,
        language: str = "python",
        files: Mapping[str, bytes] = NO_FILES,
    ) -> Generator[Result, None, None]:
        """See `Sandbox.run_each`.

        Leaving the generator ends the request; the next run may have started by then, and is its last.

        NOTE: very many or very long standard inputs are sent in several requests, each with a box of its own.
        """
        for batch in _batches(stdins):

            def body(done: int, batch: list[str] = batch) -> bytes:
                return request_body(limits, program=program, stdins=batch[done:], language=language, files=files)

            yield from self._results("/v1/run-each", len(batch), body, limits)

    def run_joined(
        self,
        first: str,
        second: str,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        *,
        first_files: Mapping[str, bytes] = NO_FILES,
        second_files: Mapping[str, bytes] = NO_FILES,
    ) -> tuple[Result, Result]:
        """See `Sandbox.run_joined`."""
        body = request_body(limits, first=first, second=second, first_files=first_files, second_files=second_files)
        patience = _Patience(self._url, self._patience_seconds)
        while True:
            try:
                with closing(self._ask("/v1/run-joined", body, 2, limits)) as results:
                    first_result, second_result = results
                return first_result, second_result
            except _Again as again:
                patience.wait(again)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _results(self, path: str, count: int, body: Callable[[int], bytes], limits: Limits) -> Iterator[Result]:
        """`count` results, requested as often as it takes. `body`: the request without the first so many runs."""
        patience = _Patience(self._url, self._patience_seconds)
        done = 0
        while done < count:
            try:
                with closing(self._ask(path, body(done), count - done, limits)) as results:
                    for result in results:
                        done += 1
                        yield result
                        patience.reset()
            except _Again as again:
                patience.wait(again)

    def _ask(self, path: str, body: bytes, count: int, limits: Limits) -> Generator[Result, None, None]:
        """The results of one request. Raises _Again where they are fewer than `count`."""
        read = WAIT_SECONDS + limits.wall_seconds + _OVERHEAD_SECONDS
        timeout = httpx.Timeout(connect=_CONNECT_SECONDS, write=_WRITE_SECONDS, read=read, pool=None)
        try:
            with self._http.stream("POST", self._url + path, content=body, timeout=timeout) as response:
                if response.status_code != 200:
                    self._refuse(response)
                for line in self._lines(response.iter_raw(), longest_line(limits)):
                    yield self._parsed(line)
                    count -= 1
                    if not count:
                        return
        except httpx.TransportError as error:
            raise _Again(f"{type(error).__name__}: {error}") from error
        raise _Again("the answer ended before its last result")

    def _lines(self, chunks: Iterable[bytes], longest: int) -> Iterator[bytes]:
        line = bytearray()
        for chunk in chunks:
            line += chunk
            *whole, rest = line.split(b"\n")
            yield from map(bytes, whole)
            line = rest
            if len(line) > longest:
                raise SandboxUnavailable(f"{self._url} answers with lines of more than {longest} bytes")

    def _parsed(self, line: bytes) -> Result:
        try:
            answer = parse_line(line)
        except ValueError as error:
            start = line[:200].decode(errors="replace")
            raise SandboxUnavailable(f"{self._url} answers as no sandbox's service does: {start!r}") from error
        if isinstance(answer, str):
            raise _Again(answer)
        return answer

    def _refuse(self, response: httpx.Response) -> NoReturn:
        """Raise what an answer other than 200 means."""
        status = response.status_code
        text = bytearray()
        for chunk in response.iter_raw():
            text += chunk
            if len(text) > _LONGEST_ERROR:
                break
        try:
            message = str(json.loads(bytes(text))["error"])
        except (ValueError, KeyError, TypeError, RecursionError):
            message = bytes(text[:200]).decode(errors="replace")
        if status in _AGAIN:
            after = response.headers.get("Retry-After", "")
            raise _Again(f"{status}: {message}", min(float(after), 30.0) if after.isdecimal() else 0.0)
        if status in (413, 422):
            raise ValueError(f"{self._url} refuses the request: {message}")
        if status == 401:
            raise SandboxUnavailable(f"{self._url} refuses the token, or there is none: {HOW_TO_SET_A_TOKEN}")
        raise SandboxUnavailable(f"{self._url} answers with {status}: {message}")


def _batches(stdins: Iterable[str]) -> Iterator[list[str]]:
    """Standard inputs in lists that fit into a request, each list taken when it is needed."""
    batch: list[str] = []
    size = 0
    for stdin in stdins:
        if batch and (len(batch) == _BATCH_RUNS or size + len(stdin) > _BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(stdin)
        size += len(stdin)
    if batch:
        yield batch
