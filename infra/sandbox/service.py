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
run-each continue one by one, each after the last one's result was sent.
"""

import ipaddress
import platform
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from infra.connections import affordable, bounded_protocol
from infra.sandbox.endpoints import DRAINING, Bearer, Runs
from infra.sandbox.interface import Sandbox
from infra.sandbox.messages import RunEachRequest, RunJoinedRequest, RunRequest
from infra.sandbox.runner import Runner, ServiceConfig
from infra.sandbox.token import HOW_TO_SET_A_TOKEN, TokenRefused

__all__ = ["Server", "ServiceConfig", "check_reach", "serve", "service_app"]


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


def service_app(runner: Runner, token: str | None) -> ASGIApp:
    """What a server serves; without a token, to whoever reaches it."""

    async def health(request: Request) -> Response:
        fault = await runner.fault()
        return JSONResponse({"ok": True}) if fault is None else JSONResponse({"error": fault}, 503)

    async def ready(request: Request) -> Response:
        return JSONResponse({"error": DRAINING}, 503) if runner.admission.draining else JSONResponse({"ok": True})

    async def metrics(request: Request) -> Response:
        return Response(runner.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def versions(request: Request) -> Response:
        return JSONResponse({"python": platform.python_version()})

    routes = [
        Route("/v1/versions", versions),
        Route("/v1/run", Runs(runner, RunRequest, "application/json"), methods=["POST"]),
        Route("/v1/run-each", Runs(runner, RunEachRequest, "application/x-ndjson"), methods=["POST"]),
        Route("/v1/run-joined", Runs(runner, RunJoinedRequest, "application/x-ndjson"), methods=["POST"]),
        Route("/healthz", health),
        Route("/readyz", ready),
        Route("/metrics", metrics),
    ]
    middleware = [Middleware(Bearer, token=token, metrics=runner.metrics)] if token is not None else []
    return Starlette(routes=routes, middleware=middleware)


RESERVED, PER_SLOT = 64, 24
"""File descriptors of the service itself, and of what runs in a slot."""


class Server(uvicorn.Server):
    """Drains on the first signal to terminate, and ends at once on the second."""

    def __init__(self, runner: Runner, token: str | None, listening: Callable[[], None] = lambda: None) -> None:
        connections = affordable(runner.config.connections, RESERVED + PER_SLOT * runner.admission.slots)
        super().__init__(
            uvicorn.Config(
                service_app(runner, token),
                loop="asyncio",
                http=bounded_protocol(connections, runner.config.headers_seconds),
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
        self.runner = runner
        self._listening = listening
        self._terminating = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called once signals are handled."""
        await super().startup(sockets)
        self._listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the signal's handler: outside the loop, which has a look at every tick."""
        if self._terminating:
            super().handle_exit(sig, frame)
        self._terminating = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; true ends the server."""
        if self._terminating:
            self.runner.drain()
        return await super().on_tick(counter) or self.runner.drained


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
        runner = Runner(sandbox, slots, config)
        host = f"[{config.host}]" if family == socket.AF_INET6 else config.host
        Server(runner, token, lambda: listening(f"http://{host}:{port}")).run(sockets=[listener])
        runner.threads.shutdown(wait=False, cancel_futures=True)
