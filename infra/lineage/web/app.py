"""The lineage page as a web application.

| | |
|---|---|
| /runs, /models, /data | tables: `search`, `sort`, `offset` |
| /runs/RUN | a run: `tab`; /runs/RUN/report its report |
| /tags, /tags/TAG | tags, and what one was set to |
| /graph | `node`, `hops`, `expand`, `selected`; or `find` |
| /compare | two runs: `a`, `b` |
| /artifacts/DIGEST/file | a text file of an artifact: `path`, one of its manifest |
| /graph.json, /curves.json | what scripts draw |
| /login | takes the token, where there is one |
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

from infra.lineage.tables import LineageError
from infra.lineage.web.security import Headers, KnownHost, ReadOnly, TokenGate
from infra.lineage.web.site import NotThere, Site
from infra.lineage.web.templating import page
from infra.lineage.web.views import compare, files, graph, run, tables
from infra.store.store import StoreError

STATIC = Path(__file__).parent / "static"

View = Callable[[Site, Request], Response]


class _Static(StaticFiles):
    """Files that browsers may keep, as long as they ask whether they changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def lineage_app(site: Site, token: str | None = None, hosts: Collection[str] = ()) -> ASGIApp:
    """What a server serves.

    Args:
        token: what visitors must know; None lets in whoever reaches the server.
        hosts: names, besides those of loopback, that the Host header may hold.
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
        NotThere: _not_there,
        LineageError: _index,
        StoreError: _store,
        HTTPException: _http,
        Exception: _broken,
    }
    app: ASGIApp = Starlette(routes=routes, exception_handlers=handlers)
    # Around all of it, so that what is refused or breaks has the headers too.
    return Headers(KnownHost(ReadOnly(TokenGate(app, token)), hosts))


def _problem(heading: str, words: str, status: int) -> Response:
    return HTMLResponse(page("problem.html", section=None, heading=heading, words=words), status)


def _not_there(request: Request, error: Exception) -> Response:
    return _problem("Not here", str(error), 404)


def _index(request: Request, error: Exception) -> Response:
    return _problem("The index cannot answer", str(error), 404)


def _store(request: Request, error: Exception) -> Response:
    return _problem("The store cannot be read", str(error), 502)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = "There is no such page." if error.status_code == 404 else error.detail
    return _problem("Not here" if error.status_code == 404 else "Refused", words, error.status_code)


def _broken(request: Request, error: Exception) -> Response:
    # The server's log has the traceback; a visitor need not.
    return _problem("Something broke", "This page could not be made. What the server printed says why.", 500)
