"""A run's page: its stages in order, live while it runs, with curves, evaluations, gates and configuration."""

import shlex
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from infra.lineage.errors import LineageError
from infra.lineage.rows import RunDetail
from infra.lineage.web.config_tree import as_yaml, config_tree
from infra.lineage.web.curves import curves_of
from infra.lineage.web.live import SILENT_SECONDS, RunState
from infra.lineage.web.site import NotFound, Site
from infra.lineage.web.summaries import GATE_ORDER, evaluations_of, gates_of, stage_rows
from infra.lineage.web.templating import link, page
from infra.lineage.web.views.tables import LONGEST_SEARCH
from infra.store.record_log import NAME
from infra.store.records import NoteRecord, StageRecord, read_valid
from infra.store.store import StoreError

TABS = {
    "stages": "Stages",
    "curves": "Curves",
    "evaluation": "Evaluation",
    "gates": "Gates",
    "configuration": "Configuration",
}
MAX_NOTES = 100
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
        "actions": site.host.actions is not None,
        "today": site.host.staleness(detail) if site.host.staleness else None,
        "has_report": site.report(row.run) is not None,
        "recipe": bool(start and start.recipe),
        "recorded": detail.recorded,
        "notes": _notes(site, request, row.run),
        "groups": [],
        "forks": {record.stage: record.forked_from for record in detail.stages if record.forked_from},
        "names": [row.run],
        "gates": [],
        "evaluations": [],
        "domains": [],
        "configurations": [],
        "search": "",
        "unfold": False,
    }
    if values["tab"] == "curves":
        values["groups"] = [
            (record.stage, link("/curves.json", run=row.run, stage=record.stage), curves)
            for record in detail.stages
            if (curves := curves_of([record]))
        ]
    elif values["tab"] == "gates":
        every_gate = [(record.stage, gate) for record in detail.stages for gate in gates_of(record)]
        values["gates"] = sorted(every_gate, key=lambda each: GATE_ORDER.index(each[1].state))
    elif values["tab"] == "evaluation":
        values["evaluations"] = evaluations_of(detail.stages)
        values["domains"] = sorted({name for each in values["evaluations"] for name in each.domains})
    elif values["tab"] == "configuration":
        search = request.query_params.get("search", "")[:LONGEST_SEARCH].strip()
        values |= {"search": search, "unfold": "unfold" in request.query_params}
        sections: list[tuple[str, str | None, dict[str, Any]]] = []
        if start and start.recipe:
            sections.append(("Recipe", None, start.recipe))
        sections += [(record.stage, record.key, record.config) for record in detail.stages]
        trees = [(name, key, config_tree(config, search)) for name, key, config in sections]
        values["configurations"] = [each for each in trees if each[2]]
    return HTMLResponse(page("run.html", section="Runs", **values, **_live(detail, progress)))


def _notes(site: Site, request: Request, run: str) -> list[NoteRecord]:
    """The newest notes on a run, oldest first. They are not in the index, so that the store is asked, once for each
    visit and not each time that a running run's progress is looked at."""
    if request.headers.get("hx-request") or not NAME.fullmatch(run):
        return []
    try:
        return read_valid(site.store, NoteRecord, f"notes/{run}")[0][-MAX_NOTES:]
    except StoreError:  # the index has all the rest
        return []


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


def recipe(site: Site, request: Request) -> Response:
    """The recipe that a run started with, as a YAML file. Raises NotFound."""
    detail = detail_of(site, request.path_params["run"])
    if detail.start is None or not detail.start.recipe:
        raise NotFound("The run's start has no record, which would hold its recipe.")
    return PlainTextResponse(as_yaml(detail.start.recipe), headers={"Content-Disposition": "inline"})


def report(site: Site, request: Request) -> Response:
    """A run's report, as it was written. Raises NotFound."""
    path = site.report(request.path_params["run"])
    if path is None:
        raise NotFound("This run has no report on this machine. `longhaul report --run RUN` prints its table.")
    return HTMLResponse(path.read_bytes(), headers={"Content-Security-Policy": REPORT_POLICY})


def stage_of(detail: RunDetail, stage: str) -> StageRecord | None:
    """A stage's record in a run; None where the run has none."""
    return next((record for record in detail.stages if record.stage == stage), None)
