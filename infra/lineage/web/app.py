"""The lineage page as a web application.

| | |
|---|---|
| /runs, /models, /data | tables: `search`, `sort`, `offset` |
| /runs/RUN | a run: `tab`; /runs/RUN/report its report |
| /tags, /tags/TAG | tags, and what one was set to |
| /graph | `node`, `hops`, `expand`, `selected`; or `find` |
| /compare | two runs: `a`, `b` |
| /artifacts/DIGEST/file | a text file of an artifact: `path`, one of its manifest |
| /graph.json, /curves.json | data for the scripts |
| /login | the form for the token, where there is one |
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from infra.lineage.errors import LineageError
from infra.lineage.web.security import AllowedHosts, Headers, ReadOnly, TokenGate
from infra.lineage.web.site import NotFound, Site
from infra.lineage.web.templating import page
from infra.lineage.web.views import compare, files, graph, run, tables
from infra.store.store import StoreError

STATIC = Path(__file__).parent / "static"

View = Callable[[Site, Request], Response]


class _Static(StaticFiles):
    """Files that browsers may cache, as long as they check whether they changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def lineage_app(site: Site, token: str | None = None, hosts: Collection[str] = ()) -> ASGIApp:
    """The application that a server serves.

    Args:
        token: the token that visitors need; None admits whoever reaches the server.
        hosts: names, besides those of loopback, that the Host header may have.
    """

    def at(path: str, view: View) -> Route:
        # A plain function, which Starlette runs in a thread: the index and the store wait for disks and networks.
        def endpoint(request: Request) -> Response:
            return view(site, request)

        return Route(path, endpoint, methods=["GET"])

    routes = [
        Route("/", lambda request: RedirectResponse("/runs", 303)),
        at("/runs", tables.runs),
        at("/runs/{run}", run.run),
        at("/runs/{run}/report", run.report),
        at("/models", tables.models),
        at("/data", tables.data),
        at("/tags", tables.tags),
        at("/tags/{tag:path}", tables.tag),
        at("/graph", graph.graph),
        at("/graph.json", graph.points),
        at("/compare", compare.compare),
        at("/curves.json", run.curves),
        at("/artifacts/{digest}/file", files.file),
        Mount("/static", _Static(directory=STATIC)),
    ]
    handlers = {
        NotFound: _on_not_found,
        LineageError: _on_lineage_error,
        StoreError: _on_store_error,
        HTTPException: _on_http_error,
        Exception: _on_error,
    }
    app: ASGIApp = Starlette(routes=routes, exception_handlers=handlers)
    # Outermost, so that refusals and errors have the headers too.
    return Headers(AllowedHosts(ReadOnly(TokenGate(app, token)), hosts))


def _problem(heading: str, words: str, status: int) -> Response:
    return HTMLResponse(page("problem.html", section=None, heading=heading, words=words), status)


def _on_not_found(request: Request, error: Exception) -> Response:
    return _problem("Not found", str(error), 404)


def _on_lineage_error(request: Request, error: Exception) -> Response:
    return _problem("The index cannot answer", str(error), 404)


def _on_store_error(request: Request, error: Exception) -> Response:
    return _problem("The store cannot be read", str(error), 502)


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = "There is no such page." if error.status_code == 404 else error.detail
    return _problem("Not found" if error.status_code == 404 else "Refused", words, error.status_code)


def _on_error(request: Request, error: Exception) -> Response:
    # The server's log has the traceback, which visitors need not see.
    return _problem("Internal error", "This page could not be made. The server's output says why.", 500)
