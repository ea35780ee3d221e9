"""The graph around a node, drawn and as lists, with a panel on one of its nodes."""

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from infra.lineage.errors import LineageError
from infra.lineage.web.neighbourhood import drawing, neighbourhood_of
from infra.lineage.web.panel import panel_of
from infra.lineage.web.site import NotFound, Site
from infra.lineage.web.templating import link, page
from infra.lineage.web.views.tables import number_in

MAX_HOPS = 4
MAX_EXPANDED = 20


def graph(site: Site, request: Request) -> Response:
    """The graph around `node`, with the panel of `selected`. Raises NotFound."""
    if find := request.query_params.get("find", "").strip():
        return _find(site, find)
    node = request.query_params.get("node")
    if not node:
        return _start(site)
    hops, expanded = _view(request)
    selected = request.query_params.get("selected") or node
    try:
        centre = site.index.node(node)
        panel = panel_of(site, selected)
    except LineageError as error:
        raise NotFound(f"{error}. It may belong to another store, or to an earlier one at this address.") from error
    html = page(
        "graph.html",
        section="Graph",
        centre=centre,
        panel=panel,
        hops=hops,
        expanded=expanded,
        max_hops=MAX_HOPS,
        drawing=link("/graph.json", node=node, hops=hops, expand=expanded),
        find="",
        problem="",
    )
    return HTMLResponse(html)


def points(site: Site, request: Request) -> Response:
    """The same graph as JSON for the script that draws it. Raises NotFound."""
    hops, expanded = _view(request)
    try:
        near = neighbourhood_of(site.index, request.query_params.get("node", ""), hops, expanded)
    except LineageError as error:
        raise NotFound(str(error)) from error
    return JSONResponse(drawing(near))


def _view(request: Request) -> tuple[int, list[str]]:
    expanded = list(dict.fromkeys(request.query_params.getlist("expand")))[-MAX_EXPANDED:]
    return number_in(request, "hops", 2, 1, MAX_HOPS), expanded


def _find(site: Site, name: str) -> Response:
    try:
        return RedirectResponse(link("/graph", node=site.index.find(name).id), 303)
    except LineageError as error:
        return HTMLResponse(page("graph_empty.html", section="Graph", find=name, problem=str(error)), 404)


def _start(site: Site) -> Response:
    """Without a node: the newest model, or what to do where there is none."""
    for rows in (site.index.models(limit=1), site.index.runs(limit=1)):
        if rows.rows:
            return RedirectResponse(link("/graph", node=rows.rows[0].id), 303)
    return HTMLResponse(page("graph_empty.html", section="Graph", find="", problem=""))
