"""A sandbox as an HTTP service (§2.6.4): any Sandbox behind a bounded queue.

| | |
|---|---|
| POST /v1/run, /v1/run-each, /v1/run-joined | run programs (infra/sandbox/messages.py) |
| GET /healthz | 200 where programs can be run: a trial of one now and then, and none where others just ran |
| GET /readyz | 200 until the service drains |
| GET /metrics | Prometheus |

Refusals: 401 token, 408 a body that does not come, 413 a body that is too large, 415 not JSON, 422 malformed (names the
key), 429 as many requests wait as may, 503 draining or no box can be made. The last two carry Retry-After.

What a client no longer reads for is not started: a request whose client is gone leaves the queue, and the runs of a
run-each go on one by one, each after the last one's result was sent.
"""

import asyncio
import hmac
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import FrameType

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.sandbox.admission import Admission, Draining, Full
from infra.sandbox.interface import Limits, Result, Sandbox, SandboxUnavailable
from infra.sandbox.messages import (
    WAIT_SECONDS,
    AnyRequest,
    Malformed,
    RunEachRequest,
    RunJoinedRequest,
    RunRequest,
    error_line,
    parse_request,
    result_line,
)
from infra.sandbox.metrics import Metrics
from infra.sandbox.token import HOW_TO_SET_A_TOKEN, TokenRefused

RETRY_SECONDS = 1
"""What Retry-After says. Runs take milliseconds, so that a queue is soon shorter."""

_TRIAL = Limits(wall_seconds=10.0, cpu_seconds=5, memory_mb=256)
_STUCK_SECONDS = 30.0
_OPEN = ("/healthz", "/readyz")


class ServiceConfig(BaseModel):
    """How a sandbox is served."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback a token is needed.")
    port: int = Field(8100, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    queue: int = Field(64, ge=0, description="Requests that may wait for a slot; one more is answered with 429.")
    max_body_mb: int = Field(16, ge=1, description="Largest body of a request, MiB.")
    maxima: Limits = Field(
        Limits(60.0, 60, 1024, 4_000_000, 64, 64), description="The highest limits that a request may ask for."
    )
    drain_seconds: float = Field(75.0, gt=0, description="How long what runs may go on once told to terminate.")
    client_seconds: float = Field(30.0, gt=0, description="How long a client may take to send, or to read a result.")
    trial_seconds: float = Field(30.0, ge=0, description="For how long a run that worked stands for the next one.")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_reach(config: ServiceConfig, token: str | None) -> None:
    """Raise TokenRefused where others than this machine could connect and there is no token."""
    if token is None and not is_loopback(config.host):
        raise TokenRefused(f"whoever reaches {config.host} could run programs here: {HOW_TO_SET_A_TOKEN}")


class _Refused(Exception):
    """An answer that is no result. `reason` is a label, so one of few."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    @property
    def headers(self) -> dict[str, str]:
        again = {"Retry-After": str(RETRY_SECONDS)} if self.status in (429, 503) else {}
        # What is left of a body that nobody reads would otherwise be taken in to its end.
        return again | ({"Connection": "close"} if self.status in (408, 413) else {})


def _draining() -> _Refused:
    return _Refused(503, "draining", "the sandbox's service is about to end and starts nothing new")


class Service:
    """A sandbox behind a queue, for one event loop. `app` is what a server serves."""

    def __init__(self, sandbox: Sandbox, slots: int, config: ServiceConfig, token: str | None = None) -> None:
        self.sandbox = sandbox
        self.config = config
        self.admission = Admission(slots, config.queue)
        self.metrics = Metrics(self.admission)
        self.threads = ThreadPoolExecutor(slots + 1, thread_name_prefix="sandbox")  # and one for the trial
        self.stopping = threading.Event()
        """No further run of a run-each starts."""
        self._drain_ends = 0.0
        self._trial = asyncio.Lock()
        self._proven = self._progress = time.monotonic()
        self._fault: str | None = None
        middleware = [Middleware(_Bearer, token=token, metrics=self.metrics)] if token is not None else []
        routes = [
            Route("/v1/run", _Runs(self, RunRequest, "application/json"), methods=["POST"]),
            Route("/v1/run-each", _Runs(self, RunEachRequest, "application/x-ndjson"), methods=["POST"]),
            Route("/v1/run-joined", _Runs(self, RunJoinedRequest, "application/x-ndjson"), methods=["POST"]),
            Route("/healthz", self._health),
            Route("/readyz", self._ready),
            Route("/metrics", self._metrics),
        ]
        self.app: ASGIApp = Starlette(routes=routes, middleware=middleware)

    def drain(self) -> None:
        """Refuse what waits and what comes; what runs goes on for `drain_seconds`."""
        if not self.admission.draining:
            self._drain_ends = time.monotonic() + self.config.drain_seconds
            self.admission.drain()

    @property
    def drained(self) -> bool:
        """Whether the drain is over: all has ended, or its time has."""
        if not self.admission.draining:
            return False
        if time.monotonic() > self._drain_ends:
            self.stopping.set()
        return self.admission.places == 0 or self.stopping.is_set()

    def results(self, asked: AnyRequest) -> Generator[Result, None, None]:
        """Run what is asked, in the calling thread; notes whether the sandbox works."""
        if self.admission.served == 1:
            self._progress = time.monotonic()
        try:
            with closing(self._runs(asked)) as runs:
                for result in runs:
                    self._proven = self._progress = time.monotonic()
                    self._fault = None
                    language = "python" if isinstance(asked, RunJoinedRequest) else asked.language
                    self.metrics.ran(language, result)
                    yield result
        except SandboxUnavailable as error:
            self._fault = str(error)
            raise

    def _runs(self, asked: AnyRequest) -> Generator[Result, None, None]:
        limits = asked.limits
        if isinstance(asked, RunJoinedRequest):
            files = {"first_files": asked.first_files, "second_files": asked.second_files}
            yield from self.sandbox.run_joined(asked.first, asked.second, limits, **files)
            return
        program, language = asked.program, asked.language
        if isinstance(asked, RunEachRequest):
            yield from self.sandbox.run_each(program, asked.stdins, limits, language=language, files=asked.files)
        else:
            yield self.sandbox.run(program, asked.stdin, limits, language=language, files=asked.files)

    async def _health(self, request: Request) -> Response:
        if self.admission.served and self._fault is None:
            still = time.monotonic() - self._progress
            if still > self.config.maxima.wall_seconds + _STUCK_SECONDS:
                return JSONResponse({"error": f"no run has ended for {still:.0f} s"}, 503)
            return JSONResponse({"ok": True})
        async with self._trial:
            if self._fault is not None or time.monotonic() - self._proven > self.config.trial_seconds:
                self._fault = await asyncio.get_running_loop().run_in_executor(self.threads, self._try)
            return JSONResponse({"ok": True}) if self._fault is None else JSONResponse({"error": self._fault}, 503)

    def _try(self) -> str | None:
        """What is wrong with the sandbox, if anything is."""
        try:
            result = self.sandbox.run("print('ready')", "", _TRIAL)
        except SandboxUnavailable as error:
            return str(error)
        if result.stdout != "ready\n":
            return f"a trial program did not run: {result.ended}, exit code {result.exit_code}"
        self._proven = time.monotonic()
        return None

    async def _ready(self, request: Request) -> Response:
        if self.admission.draining:
            return JSONResponse({"error": str(_draining())}, 503)
        return JSONResponse({"ok": True})

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)


class _Bearer:
    """Lets nobody in without the token, but to the probes, which a cluster asks without one."""

    def __init__(self, app: ASGIApp, token: str, metrics: Metrics) -> None:
        self._app = app
        self._token = token.encode()
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in _OPEN or self._knows(dict(scope["headers"]).get(b"authorization", b"")):
            await self._app(scope, receive, send)
            return
        self._metrics.refused("token")
        message = "the sandbox's service asks for a token: Authorization: Bearer TOKEN"
        headers = {"WWW-Authenticate": "Bearer", "Connection": "close"}
        await JSONResponse({"error": message}, 401, headers)(scope, receive, send)

    def _knows(self, header: bytes) -> bool:
        scheme, _, token = header.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)


class _Answer:
    """The lines of a response, which starts with the first of them."""

    def __init__(self, send: Send, media_type: str, seconds: float) -> None:
        self._send = send
        self._media_type = media_type
        self._seconds = seconds
        self.started = False

    async def line(self, line: bytes, more: bool = True) -> None:
        """Send a line. Raises TimeoutError where the client does not take it."""
        async with asyncio.timeout(self._seconds):
            if not self.started:
                self.started = True
                headers = [(b"content-type", self._media_type.encode())]
                await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send({"type": "http.response.body", "body": line, "more_body": more})

    async def end(self) -> None:
        """Send what there is to send after the last line."""
        await self.line(b"", more=False)


class _Runs:
    """An endpoint that runs programs."""

    def __init__(self, service: Service, model: type[AnyRequest], media_type: str) -> None:
        self.service = service
        self._config = service.config
        self._admission = service.admission
        self._model = model
        self._media_type = media_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send, self._media_type, self._config.client_seconds)
        try:
            try:
                with self._admission.place():
                    await self._run(Request(scope, receive), answer)
            except Full as error:
                waiting = self._admission.waiting
                raise _Refused(429, "queue", f"{waiting} requests wait for the sandbox; no more may") from error
            except Draining as error:
                raise _draining() from error
            except SandboxUnavailable as error:
                raise _Refused(503, "sandbox", str(error)) from error
            except (ClientDisconnect, TimeoutError):  # gone, or no longer reading: the server closes the connection
                return
        except _Refused as refused:
            self.service.metrics.refused(refused.reason)
            if answer.started:
                await answer.line(error_line(str(refused)))
                await answer.end()
            else:
                response = JSONResponse({"error": str(refused)}, refused.status, refused.headers)
                await response(scope, receive, send)

    async def _run(self, request: Request, answer: _Answer) -> None:
        """Read the request, wait for a slot, run, and answer. Where the client is gone by then, none of it."""
        asked = await self._read(request)
        gone = asyncio.create_task(_disconnected(request))
        ticket = self._admission.ticket(2 if isinstance(asked, RunJoinedRequest) else 1)
        try:
            await asyncio.wait({ticket.called, gone}, timeout=WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return
            if not ticket.called.done():
                raise _Refused(429, "queue", f"no slot of the sandbox became free within {WAIT_SECONDS:.0f} s")
            ticket.called.result()
            left = threading.Event()
            gone.add_done_callback(lambda _: left.set())
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self.service.threads, self._drive, asked, answer, left, loop)
            await answer.end()
        finally:
            gone.cancel()
            self._admission.give_back(ticket)

    async def _read(self, request: Request) -> AnyRequest:
        # A web page may send other types anywhere without being asked whether it may.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _Refused(415, "malformed", "the request's Content-Type must be application/json")
        most = self._config.max_body_mb * 2**20
        too_large = f"the request's body has more than {self._config.max_body_mb} MiB, the service's limit"
        body = bytearray()
        try:
            async with asyncio.timeout(self._config.client_seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise _Refused(413, "body", too_large)
        except TimeoutError as error:
            message = f"the request's body did not come within {self._config.client_seconds:.0f} s"
            raise _Refused(408, "body", message) from error
        try:
            return await asyncio.to_thread(parse_request, bytes(body), self._model, self._config.maxima)
        except Malformed as error:
            raise _Refused(422, "malformed", str(error)) from error

    def _drive(
        self,
        asked: AnyRequest,
        answer: _Answer,
        left: threading.Event,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """In a thread of the pool: each run starts once the result of the one before it was sent."""
        runs = len(asked.stdins) if isinstance(asked, RunEachRequest) else 1
        with closing(self.service.results(asked)) as results:
            for number, result in enumerate(results, 1):
                sent = asyncio.run_coroutine_threadsafe(answer.line(result_line(result)), loop)
                # Longer than the answer's own time, and not for ever: the loop may end before it gets to it.
                sent.result(self._config.client_seconds + 5)
                if left.is_set():
                    return
                if number < runs and self.service.stopping.is_set():
                    raise Draining


async def _disconnected(request: Request) -> None:
    """Return once the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Server(uvicorn.Server):
    """Drains when it is told to terminate, and ends at once when it is told again."""

    def __init__(self, service: Service, listening: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                service.app,
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=5,
            )
        )
        self.service = service
        self._listening = listening
        self._told = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called once signals are handled."""
        await super().startup(sockets)
        self._listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the signal's handler: outside the loop, which has a look at every tick."""
        if self._told:
            super().handle_exit(sig, frame)
        self._told = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; true ends the server."""
        if self._told:
            self.service.drain()
        return await super().on_tick(counter) or self.service.drained


def serve(
    sandbox: Sandbox, slots: int, config: ServiceConfig, token: str | None, listening: Callable[[str], None]
) -> None:
    """Serve a sandbox until SIGTERM or SIGINT, then drain; the sandbox is closed by the caller.

    Args:
        listening: called with the service's address once connections are taken.

    Raises TokenRefused where others than this machine could connect and there is no token, OSError where the address
    cannot be listened on.
    """
    check_reach(config, token)
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.create_server((config.host, config.port), family=family, backlog=1024) as listener:
        port = listener.getsockname()[1]
        service = Service(sandbox, slots, config, token)
        host = f"[{config.host}]" if family == socket.AF_INET6 else config.host
        Server(service, lambda: listening(f"http://{host}:{port}")).run(sockets=[listener])
        service.threads.shutdown(wait=False, cancel_futures=True)
