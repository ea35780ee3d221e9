"""Many runs with their seeds grouped: means with intervals, differences paired by seed, and curves of the means."""

import json
from functools import partial

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from infra.lineage.run_values import Group, GroupFigure, RunValues, common_figures, comparison, group_figures, groups_of
from infra.lineage.web.curves import mean_curves
from infra.lineage.web.site import Site
from infra.lineage.web.templating import link, page
from infra.lineage.web.views.run import detail_of, stage_of
from infra.store.records import StageRecord

MAX_RUNS = 64
MAX_GROUPS = 8
"""Groups whose curves are drawn over one another: more colours would look alike."""

MAX_FIGURES = 40


def groups(site: Site, request: Request) -> Response:
    """The runs `run` by group, with curves of `stage`. Raises NotFound for a run that is not there."""
    grouped, rows = _compared(site, request)
    records = [record for group in grouped for run in group.runs for record in run.detail.stages if record.history]
    stages = list(dict.fromkeys(record.stage for record in records))
    stage = request.query_params.get("stage", "")
    stage = stage if stage in stages else "rl" if "rl" in stages else next(iter(stages), "")
    names = _names(request)
    curves = mean_curves(_records(grouped, stage)) if stage else []
    values = {
        "runs": names,
        "compared": grouped,
        "rows": rows,
        "names": [group.label for group in grouped[:MAX_GROUPS]],
        "stages": stages,
        "stage": stage,
        "groups": [(stage, link("/groups/curves.json", run=names, stage=stage), curves)] if curves else [],
    }
    return HTMLResponse(page("groups.html", section="Runs", **values))


def as_json(site: Site, request: Request) -> Response:
    """The same as `longhaul compare --json` prints. Raises NotFound."""
    grouped, rows = _compared(site, request)
    data = comparison(grouped, [], rows, grouped[0].label if grouped else "")
    # Written with ASCII alone, so that no text of others reorders what a terminal shows of it.
    return Response(json.dumps(data), media_type="application/json")


def points(site: Site, request: Request) -> Response:
    """The points of the curves of the groups' means, as JSON. Raises NotFound."""
    grouped, _ = _compared(site, request)
    curves = mean_curves(_records(grouped, request.query_params.get("stage", "")))
    runs = [group.label for group in grouped[:MAX_GROUPS]]
    return JSONResponse({"runs": runs, "metrics": {curve.metric: curve.points for curve in curves}})


def _compared(site: Site, request: Request) -> tuple[list[Group], list[GroupFigure]]:
    # Oldest first, as `longhaul compare --where`: differences are from what was there before.
    details = sorted((detail_of(site, name) for name in _names(request)), key=lambda detail: detail.row.started)
    runs = [RunValues(detail.row, partial(lambda same: same, detail)) for detail in details]
    grouped = groups_of(runs)
    return grouped, group_figures(grouped, common_figures(runs)[:MAX_FIGURES])


def _records(grouped: list[Group], stage: str) -> list[list[StageRecord | None]]:
    return [[stage_of(run.detail, stage) for run in group.runs] for group in grouped[:MAX_GROUPS]]


def _names(request: Request) -> list[str]:
    return list(dict.fromkeys(request.query_params.getlist("run")))[:MAX_RUNS]
