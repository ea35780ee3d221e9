"""A browser on the lineage page: a server in a thread, and tabs that record what they load and complain of."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from playwright.sync_api import Browser, Page

from infra.lineage.web.app import lineage_app
from infra.lineage.web.site import Site


@contextmanager
def served(site: Site, token: str | None = None) -> Iterator[str]:
    """The page's address, while it is served from a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(
            uvicorn.Config(lineage_app(site, token), log_config=None, lifespan="off", ws="none", http="h11")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


class Tab:
    """A tab that records its requests and what it complained of."""

    def __init__(self, browser: Browser, address: str, **context: Any) -> None:
        self.context = browser.new_context(base_url=address, **context)
        self.page: Page = self.context.new_page()
        self.outside: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self._on_request(request.url, address))
        self.page.on("console", lambda message: self._said(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.set_default_timeout(10_000)

    def _on_request(self, url: str, address: str) -> None:
        if not url.startswith(f"{address}/"):
            self.outside.append(url)

    def _said(self, text: str) -> None:
        # Pages of the tests that are not there answer 404, which the browser tells.
        if "status of 404" not in text:
            self.complaints.append(text)
