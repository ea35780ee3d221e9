"""A run's page: its stages in order, live while it runs, with curves, evaluations, gates and configuration."""

import shlex
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from infra.flatten import flatten
from infra.lineage.errors import LineageError
from infra.lineage.rows import RunDetail
from infra.lineage.web.curves import curves_of
from infra.lineage.web.live import SILENT_SECONDS, RunState
from infra.lineage.web.site import NotFound, Site
from infra.lineage.web.summaries import evaluations_of, gates_of, stage_rows
from infra.lineage.web.templating import link, page
from infra.store.records import StageRecord

TABS = {
    "stages": "Stages",
    "curves": "Curves",
    "evaluation": "Evaluation",
    "gates": "Gates",
    "configuration": "Configuration",
}
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
"""A report holds its own style and figures and needs nothing else; it is not part of this page's origin."""


def run(site: Site, request: Request) -> Response:
    """One run. Raises NotFound."""
    detail = detail_of(site, request.path_params["run"])
    row, start, end = detail.row, detail.start, detail.end
    tab = request.query_params.get("tab", "stages")
    running = row.status == "running"
    progress = site.live.state(row.run) if running else None
    values: dict[str, Any] = {
        "row": row,
        "tab": tab if tab in TABS else "stages",
        "tabs": TABS.items(),
        "stages": stage_rows(detail.stages),
        "command": shlex.join(start.command) if start and start.command else "",
        "error": end.error if end else None,
        "commit": next((record.commit for record in reversed(detail.stages) if record.commit), None),
        "changed": any(record.diff for record in detail.stages),
        "has_report": site.report(row.run) is not None,
        "recipe": flatten(start.recipe) if start else {},
        "groups": [],
        "names": [row.run],
        "gates_by_stage": [],
        "evaluations": [],
        "domains": [],
        "evaluation_configs": [],
    }
    if values["tab"] == "curves":
        values["groups"] = [
            (record.stage, link("/curves.json", run=row.run, stage=record.stage), curves)
            for record in detail.stages
            if (curves := curves_of([record]))
        ]
    elif values["tab"] == "gates":
        values["gates_by_stage"] = [(record.stage, gates) for record in detail.stages if (gates := gates_of(record))]
    elif values["tab"] == "evaluation":
        values["evaluations"] = evaluations_of(detail.stages)
        values["domains"] = sorted({name for each in values["evaluations"] for name in each.domains})
    elif values["tab"] == "configuration":
        own_rows = {row.record.stage for row in values["stages"]}
        values["evaluation_configs"] = [
            (record, flatten(record.config)) for record in detail.stages if record.stage not in own_rows
        ]
    return HTMLResponse(page("run.html", section="Runs", **values, **_live(detail, progress)))


def detail_of(site: Site, run: str) -> RunDetail:
    """All that is recorded of a run. Raises NotFound."""
    try:
        return site.index.run(run)
    except LineageError as error:
        raise NotFound(str(error)) from error


def _live(detail: RunDetail, progress: RunState | None) -> dict[str, Any]:
    now = time.time()
    running = detail.row.status == "running"
    silence = now - progress.last if running and progress and progress.last else 0.0
    announcement = ""
    if running and progress and progress.running:
        announcement = f"{progress.running[-1].name} is running, {detail.row.stages} stages are done"
    return {
        "following": running,
        "progress": progress,
        "now": now,
        "ago": max(0.0, silence),
        "silent": silence if silence > SILENT_SECONDS else None,
        "announcement": announcement,
    }


def report(site: Site, request: Request) -> Response:
    """A run's report, as it was written. Raises NotFound."""
    path = site.report(request.path_params["run"])
    if path is None:
        raise NotFound("This run has no report on this machine. `longhaul report --run RUN` prints its table.")
    return HTMLResponse(path.read_bytes(), headers={"Content-Security-Policy": REPORT_POLICY})


def curves(site: Site, request: Request) -> Response:
    """The points of a stage's curves in one or two runs, as JSON. Raises NotFound."""
    names = request.query_params.getlist("run")[:2]
    stage = request.query_params.get("stage", "")
    details = [stage_of(detail_of(site, name), stage) for name in names]
    points = {curve.metric: curve.points for curve in curves_of(details)}
    return JSONResponse({"runs": names, "metrics": points})


def stage_of(detail: RunDetail, stage: str) -> StageRecord | None:
    """A stage's record in a run; None where the run has none."""
    return next((record for record in detail.stages if record.stage == stage), None)
