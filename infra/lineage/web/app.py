"""The lineage page as a web application.

| | |
|---|---|
| / | what runs, what failed, what is stale, what is in production; /failures in full |
| /runs, /models, /data | tables: `search`, `sort`, `offset`; of runs also `column` and `where`, and .json and .csv |
| /curves | curves of the runs `run` over one another |
| /runs/RUN | a run: `tab`, `search` in its configuration; its report, its recipe.yaml |
| /samples/DIGEST | responses that a stage trained on: `iteration`, `reward_from`, `text` and so on |
| /images/IMAGE.png | an image of a prompt of the execution `run`, `stage`, small, or `whole` |
| /prompts, /prompts/DIGEST | prompts with a text; one with all answers to it, those of `a` and `b` side by side |
| /tags, /tags/TAG | tags, and what one was set to |
| /graph | `node`, `hops`, `expand`, `selected`; or `find` |
| /gates, /benchmarks | a gate's figures over all runs: `stage`, `gate`; models by benchmarks |
| /schedules | next times, what was done, what each started |
| /compare | two runs: `a`, `b` |
| /artifacts/DIGEST/file | a text file of an artifact: `path`, one of its manifest |
| /graph.json, /curves.json | data for the scripts |
| /actions | what would be done, its confirmation, and doing it, where the server allows actions |
| /login | the form for the token, where there is one |
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from infra.lineage.errors import LineageError
from infra.lineage.samples import SamplesError
from infra.lineage.web.confirmation import ActionRefused, Confirmations
from infra.lineage.web.security import ACTIONS, AllowedHosts, Headers, ReadOnly, TokenGate
from infra.lineage.web.site import NotFound, Site
from infra.lineage.web.templating import page
from infra.lineage.web.views import (
    actions,
    compare,
    files,
    gates,
    graph,
    groups,
    images,
    overview,
    prompts,
    run,
    runs,
    samples,
    schedules,
    tables,
)
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

    Raises ValueError where actions are allowed without a token.
    """
    if site.host.actions is not None and token is None:
        raise ValueError("actions need a token: whoever reaches the page could do them")
    confirmations = Confirmations()

    def confirm(request: Request) -> Response:
        return actions.confirm(site, request, confirmations)

    async def perform(request: Request) -> Response:
        body = await actions.body_of(request)
        return await run_in_threadpool(actions.perform, site, request, body, confirmations)

    def at(path: str, view: View) -> Route:
        # A plain function, which Starlette runs in a thread: the index and the store wait for disks and networks.
        def endpoint(request: Request) -> Response:
            return view(site, request)

        return Route(path, endpoint, methods=["GET"])

    routes = [
        at("/", overview.overview),
        at("/failures", overview.failures),
        at("/gates", gates.gates),
        at("/gates.json", gates.points),
        at("/benchmarks", gates.benchmarks),
        at("/schedules", schedules.schedules),
        at("/runs", runs.runs),
        at("/runs.json", runs.as_json),
        at("/runs.csv", runs.as_csv),
        at("/curves", runs.curves),
        at("/groups", groups.groups),
        at("/groups.json", groups.as_json),
        at("/groups/curves.json", groups.points),
        at("/runs/{run}", run.run),
        at("/runs/{run}/report", run.report),
        at("/runs/{run}/recipe.yaml", run.recipe),
        at("/samples/{digest}", samples.samples),
        at("/images/{image}", images.image),
        at("/prompts", prompts.prompts),
        at("/prompts/{digest}", prompts.prompt),
        at("/models", tables.models),
        at("/data", tables.data),
        at("/tags", tables.tags),
        at("/tags/{tag:path}", tables.tag),
        at("/graph", graph.graph),
        at("/graph.json", graph.points),
        at("/compare", compare.compare),
        at("/curves.json", runs.points),
        at("/artifacts/{digest}/file", files.file),
        Route(ACTIONS, confirm, methods=["GET"]),
        Route(ACTIONS, perform, methods=["POST"]),
        Mount("/static", _Static(directory=STATIC)),
    ]
    handlers = {
        NotFound: _on_not_found,
        LineageError: _on_lineage_error,
        StoreError: _on_store_error,
        SamplesError: _on_store_error,
        ActionRefused: _on_refusal,
        HTTPException: _on_http_error,
        Exception: _on_error,
    }
    app: ASGIApp = Starlette(routes=routes, exception_handlers=handlers)
    # Outermost, so that refusals and errors have the headers too.
    return Headers(AllowedHosts(ReadOnly(TokenGate(app, token), site.host.actions is not None), hosts))


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


def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, ActionRefused)
    return _problem("Not done", str(error), error.status)


def _on_error(request: Request, error: Exception) -> Response:
    # The server's log has the traceback, which visitors need not see.
    return _problem("Internal error", "This page could not be made. The server's output says why.", 500)
