"""The service's endpoints that run programs, and the token that opens them."""

import asyncio
import hmac
import threading
from contextlib import closing

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.sandbox.admission import Draining, Full
from infra.sandbox.interface import SandboxUnavailable
from infra.sandbox.messages import (
    WAIT_SECONDS,
    AnyRequest,
    Malformed,
    RunEachRequest,
    RunJoinedRequest,
    error_line,
    parse_request,
    result_line,
)
from infra.sandbox.metrics import Metrics
from infra.sandbox.runner import Runner

RETRY_SECONDS = 1
"""What Retry-After says. Runs take milliseconds, so that a queue is soon shorter."""

OPEN = ("/healthz", "/readyz")
"""What anyone may ask: a cluster's probes have no token."""

DRAINING = "the sandbox's service is about to end and starts nothing new"


class _Refused(Exception):
    """An answer that is not a result. `reason` is a label, so one of few."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    @property
    def headers(self) -> dict[str, str]:
        again = {"Retry-After": str(RETRY_SECONDS)} if self.status in (429, 503) else {}
        # What is left of a body that nobody reads would otherwise be taken in to its end.
        return again | ({"Connection": "close"} if self.status in (408, 413) else {})


class Bearer:
    """Lets nobody in without the token."""

    def __init__(self, app: ASGIApp, token: str, metrics: Metrics) -> None:
        self._app = app
        self._token = token.encode()
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in OPEN or self._knows(dict(scope["headers"]).get(b"authorization", b"")):
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


class Runs:
    """An endpoint that runs programs."""

    def __init__(self, runner: Runner, model: type[AnyRequest], media_type: str) -> None:
        self._runner = runner
        self._config = runner.config
        self._admission = runner.admission
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
                raise _Refused(503, "draining", DRAINING) from error
            except SandboxUnavailable as error:
                raise _Refused(503, "sandbox", str(error)) from error
            except (ClientDisconnect, TimeoutError):  # gone, or no longer reading: the server closes the connection
                return
        except _Refused as refused:
            self._runner.metrics.refused(refused.reason)
            if answer.started:
                await answer.line(error_line(str(refused)))
                await answer.end()
            else:
                response = JSONResponse({"error": str(refused)}, refused.status, refused.headers)
                await response(scope, receive, send)

    async def _run(self, request: Request, answer: _Answer) -> None:
        """Read the request, wait for a slot, run, and answer. Where the client is gone by then, none of it."""
        parsed = await self._read(request)
        gone = asyncio.create_task(_disconnected(request))
        ticket = self._admission.ticket(2 if isinstance(parsed, RunJoinedRequest) else 1)
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
            await loop.run_in_executor(self._runner.threads, self._drive, parsed, answer, left, loop)
            await answer.end()
        finally:
            gone.cancel()
            self._admission.give_back(ticket)

    async def _read(self, request: Request) -> AnyRequest:
        # A web page may send other types anywhere without any check.
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
        parsed: AnyRequest,
        answer: _Answer,
        left: threading.Event,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """In a thread of the pool: each run starts once the result of the one before it was sent."""
        runs = len(parsed.stdins) if isinstance(parsed, RunEachRequest) else 1
        with closing(self._runner.results(parsed)) as results:
            for number, result in enumerate(results, 1):
                sent = asyncio.run_coroutine_threadsafe(answer.line(result_line(result)), loop)
                # Longer than the answer's own time, and not for ever: the loop may end before it gets to it.
                sent.result(self._config.client_seconds + 5)
                if left.is_set():
                    return
                if number < runs and self._runner.stopping.is_set():
                    raise Draining


async def _disconnected(request: Request) -> None:
    """Return once the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
