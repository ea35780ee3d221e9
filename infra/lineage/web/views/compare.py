"""Two runs beside each other."""

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from infra.flatten import flatten
from infra.lineage.web.curves import curves_of
from infra.lineage.web.difference import differences, differing
from infra.lineage.web.site import Site
from infra.lineage.web.templating import link, page
from infra.lineage.web.views.run import detail_of

MAX_OFFERED = 200
"""Newest runs that the form offers; older ones are named by hand."""


def compare(site: Site, request: Request) -> Response:
    """What differs between the runs `a` and `b`; without both, a form for them. Raises NotFound."""
    names = [request.query_params.get(name, "").strip() for name in ("a", "b")]
    offered = [row.run for row in site.index.runs(text="", limit=MAX_OFFERED, offset=0, order="-started").rows]
    values = {"section": "Compare", "first": names[0], "second": names[1], "offered": offered}
    if not all(names):
        return HTMLResponse(page("compare.html", both=None, **values))
    both = [detail_of(site, name) for name in names]
    stages = differences(*both)
    recipes = [flatten(detail.start.recipe) if detail.start else {} for detail in both]
    groups = [
        (each.stage, link("/curves.json", run=names, stage=each.stage), curves)
        for each in stages
        if not each.same_key and (curves := curves_of([each.first, each.second]))
    ]
    html = page(
        "compare.html",
        both=both,
        recipe=differing(*recipes),
        stages=stages,
        groups=groups,
        names=names,
        **values,
    )
    return HTMLResponse(html)
