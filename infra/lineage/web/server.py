"""Serves the lineage page, and keeps the index up to date while it does."""

import socket
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

import uvicorn

from infra.lineage.tables import LineageError
from infra.lineage.web.app import lineage_app
from infra.lineage.web.site import Site
from infra.sandbox.service import is_loopback
from infra.sandbox.token import TokenRefused, how_to_set_a_token
from infra.store.store import StoreError

TOKEN_VARIABLE = "LONGHAUL_LINEAGE_TOKEN"
EVERYWHERE = ("0.0.0.0", "::")
"""Addresses that stand for all of a machine's, and are no name to ask for."""

POLL_SECONDS = 3.0


@dataclass(frozen=True)
class ServerConfig:
    """Where the page listens."""

    host: str = "127.0.0.1"
    port: int = 8600
    """0 takes a free one."""
    hosts: Collection[str] = ()
    """Names, besides the address itself and those of loopback, that visitors may know this machine by."""


def check_reach(config: ServerConfig, token: str | None) -> None:
    """Raise TokenRefused where others than this machine could connect and there is no token."""
    if token is None and not is_loopback(config.host):
        raise TokenRefused(
            f"whoever reaches {config.host} could read all lineage: {how_to_set_a_token(TOKEN_VARIABLE)}"
        )


class Follower:
    """Adds new records to the index every few seconds, until it is stopped."""

    def __init__(self, site: Site, complain: Callable[[str], None], seconds: float = POLL_SECONDS) -> None:
        self._site = site
        self._complain = complain
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
            except Exception as error:  # whatever it is: a thread that ends here would leave the page as it is, unsaid
                known = isinstance(error, StoreError | LineageError)
                said = str(error) if known else f"the index cannot be brought up to date: {error!r}"
                # Said once: a store that is out of reach for an hour is one line, not a thousand.
                if said != last:
                    last = said
                    self._complain(said)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()


def serve(
    site: Site,
    config: ServerConfig,
    token: str | None,
    listening: Callable[[str], None],
    complain: Callable[[str], None],
) -> None:
    """Serve the page until SIGTERM or SIGINT.

    Args:
        listening: called with the page's address once connections are taken.
        complain: called with why the index could not be brought up to date.

    Raises TokenRefused where others than this machine could connect and there is no token, OSError where the address
    cannot be listened on.
    """
    check_reach(config, token)
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    named = f"[{config.host}]" if family == socket.AF_INET6 else config.host
    hosts = [*config.hosts, *([named] if config.host not in EVERYWHERE else [])]
    with socket.create_server((config.host, config.port), family=family, backlog=128) as listener:
        port = listener.getsockname()[1]
        settings = uvicorn.Config(
            lineage_app(site, token, hosts),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        shown = "127.0.0.1" if config.host == "0.0.0.0" else "[::1]" if config.host == "::" else named
        with Follower(site, complain):
            _Server(settings, lambda: listening(f"http://{shown}:{port}")).run(sockets=[listener])
