"""Serves the lineage page, and meanwhile updates the index."""

import socket
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

import uvicorn

from infra.connections import affordable, bounded_protocol
from infra.lineage.errors import LineageError
from infra.lineage.web.app import lineage_app
from infra.lineage.web.site import Site
from infra.sandbox.service import is_loopback
from infra.sandbox.token import TokenRefused, how_to_set_a_token
from infra.store.store import StoreError

TOKEN_VARIABLE = "LONGHAUL_LINEAGE_TOKEN"
ANY_ADDRESS = ("0.0.0.0", "::")
"""Addresses that mean all of a machine's, and cannot be requested."""

POLL_SECONDS = 3.0
RESERVED = 96
"""File descriptors of the page itself: the index's connections, templates, and files of the store."""


@dataclass(frozen=True)
class ServerConfig:
    """Where the page listens."""

    host: str = "127.0.0.1"
    port: int = 8600
    """0: any free one."""
    hosts: Collection[str] = ()
    """Names of this machine that visitors may use, besides the address itself and those of loopback."""

    connections: int = 512
    """At one time; idle ones make room for new ones."""
    request_seconds: float = 20.0
    """How long a request may take to arrive."""


def check_reach(config: ServerConfig, token: str | None) -> None:
    """Raise TokenRefused where others than this machine could connect and there is no token."""
    if token is None and not is_loopback(config.host):
        raise TokenRefused(
            f"whoever reaches {config.host} could read all lineage: {how_to_set_a_token(TOKEN_VARIABLE)}"
        )


class Follower:
    """Adds new records to the index every few seconds, until it is stopped."""

    def __init__(self, site: Site, on_error: Callable[[str], None], seconds: float = POLL_SECONDS) -> None:
        self._site = site
        self._on_error = on_error
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="lineage index", daemon=True)

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        last = ""
        while not self._stop.wait(self._seconds):
            try:
                self._site.index.sync(self._site.store)
                last = ""
            except Exception as error:  # a thread that ended here would leave the page out of date without a word
                known = isinstance(error, StoreError | LineageError)
                message = str(error) if known else f"the index cannot be updated: {error!r}"
                # Once: a store that is out of reach for an hour is one line, not a thousand.
                if message != last:
                    last = message
                    self._on_error(message)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()


def serve(
    site: Site,
    config: ServerConfig,
    token: str | None,
    on_listening: Callable[[str], None],
    on_error: Callable[[str], None],
) -> None:
    """Serve the page until SIGTERM or SIGINT.

    Args:
        on_listening: called with the page's address once connections are taken.
        on_error: called with the reason where the index could not be updated.

    Raises TokenRefused where others than this machine could connect and there is no token, OSError where the address
    cannot be listened on.
    """
    check_reach(config, token)
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    named = f"[{config.host}]" if family == socket.AF_INET6 else config.host
    hosts = [*config.hosts, *([named] if config.host not in ANY_ADDRESS else [])]
    with socket.create_server((config.host, config.port), family=family, backlog=128) as listener:
        port = listener.getsockname()[1]
        settings = uvicorn.Config(
            lineage_app(site, token, hosts),
            http=bounded_protocol(
                affordable(config.connections, RESERVED), config.request_seconds, config.request_seconds
            ),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        reachable = "127.0.0.1" if config.host == "0.0.0.0" else "[::1]" if config.host == "::" else named
        with Follower(site, on_error):
            _Server(settings, lambda: on_listening(f"http://{reachable}:{port}")).run(sockets=[listener])
