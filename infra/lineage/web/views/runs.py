"""Many runs: a table with chosen columns, as a page, JSON and CSV; and curves of several runs over one another."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from infra.flatten import flatten
from infra.lineage.csv_text import csv_text
from infra.lineage.errors import LineageError
from infra.lineage.figures import figures_of
from infra.lineage.queries import newest_runs_of_chain
from infra.lineage.rows import RunDetail
from infra.lineage.run_table import Condition, RunTable, run_table
from infra.lineage.run_values import FIELDS
from infra.lineage.web.curves import curves_of
from infra.lineage.web.site import Site
from infra.lineage.web.templating import link, page
from infra.lineage.web.views.run import detail_of, stage_of
from infra.lineage.web.views.tables import LONGEST_SEARCH, NEWEST, ROWS, RUNS, number_in
from infra.store.evaluation_stages import evaluated_stage

MAX_COLUMNS = 12
MAX_CONDITIONS = 8
MAX_EXPORTED = 10_000
KNOWN_FROM = 3
"""Newest runs whose columns are offered."""
MAX_CURVES = 8
"""Runs whose curves are drawn over one another: more colours would look alike."""

LONGEST_NAME = 200


def runs(site: Site, request: Request) -> Response:
    """Every run, with the columns `column`, of those that meet the conditions `where`."""
    columns, texts, search = _query(request)
    try:
        conditions = [Condition.parse(text) for text in texts]
        problem = ""
    except LineageError as error:
        conditions, problem = [], str(error)
    requested = request.query_params.get("sort", NEWEST)[:LONGEST_NAME]
    known = {*FIELDS, *columns}
    sort = requested if requested.removeprefix("-") in known else NEWEST
    offset = number_in(request, "offset", 0, 0, 10**9)
    table = run_table(site.index, columns, search, conditions, sort, ROWS, offset)
    end = offset + len(table.rows)
    summary = f"{table.total:,} run{'' if table.total == 1 else 's'}"
    summary += f" match “{search}”" if search else ""
    summary += f" where {' and '.join(texts)}" if conditions else ""
    if table.rows and table.total > len(table.rows):
        summary += f", {offset + 1:,} to {end:,} shown"
    chosen = {"column": columns, "where": texts, "search": search}

    def at(path: str = "/runs", **changed: Any) -> str:
        return link(path, **(chosen | {"sort": None if sort == NEWEST else sort} | changed))

    values: dict[str, Any] = {
        "heading": "Runs",
        "heads": RUNS,
        "columns": columns,
        "known": _known_columns(site),
        "table": table,
        "search": search,
        "conditions": texts,
        "problem": problem,
        "sort": sort,
        "summary": summary,
        "offset": offset,
        "at": at,
        "before": at(offset=max(0, offset - ROWS) or None) if offset else None,
        "after": at(offset=end) if end < table.total else None,
        "max_curves": MAX_CURVES,
    }
    return HTMLResponse(page("runs.html", section="Runs", **values))


def _query(request: Request) -> tuple[list[str], list[str], str]:
    """The chosen columns, the conditions and the text that is searched for."""

    def several(name: str, most: int) -> list[str]:
        texts = [part.strip()[:LONGEST_NAME] for text in request.query_params.getlist(name) for part in text.split(";")]
        return list(dict.fromkeys(text for text in texts if text))[:most]

    search = request.query_params.get("search", "")[:LONGEST_SEARCH].strip()
    return several("column", MAX_COLUMNS), several("where", MAX_CONDITIONS), search


def _known_columns(site: Site) -> list[str]:
    """Columns that the newest runs of the chain have; the newest alone may not be so far yet."""
    runs = newest_runs_of_chain(site.index, KNOWN_FROM)
    return list(dict.fromkeys(name for run in runs for name in _columns_of(site.index.run(run))))


def _columns_of(detail: RunDetail) -> list[str]:
    settings = list(flatten(detail.start.recipe)) if detail.start and detail.start.recipe else []
    stages = {record.stage for record in detail.stages}
    figures = []
    for record in detail.stages:
        evaluated = evaluated_stage(record.stage)
        # What an evaluation measured is listed once, as figures of the stage whose model it was.
        own = evaluated is None or evaluated not in stages
        figures += [f"{record.stage if own or name == 'seconds' else evaluated}:{name}" for name in figures_of(record)]
    return [*settings, *dict.fromkeys(figures)]


def _all(site: Site, request: Request) -> RunTable:
    columns, texts, search = _query(request)
    sort = request.query_params.get("sort", NEWEST)[:LONGEST_NAME]
    sort = sort if sort.removeprefix("-") in {*FIELDS, *columns} else NEWEST
    return run_table(site.index, columns, search, [Condition.parse(text) for text in texts], sort, MAX_EXPORTED)


def as_json(site: Site, request: Request) -> Response:
    """The table as JSON, up to MAX_EXPORTED rows. Raises LineageError for a condition that is not one."""
    table = _all(site, request)
    rows = [asdict(row) | {"columns": dict(zip(table.columns, cells, strict=True))} for row, cells in table.rows]
    # Written with ASCII alone, so that no text of others reorders what a terminal shows of it.
    return Response(json.dumps({"total": table.total, "runs": rows}), media_type="application/json")


def as_csv(site: Site, request: Request) -> Response:
    """The table as CSV, up to MAX_EXPORTED rows. Raises LineageError for a condition that is not one."""
    table = _all(site, request)
    rows = ([*(getattr(row, name) for name in FIELDS), *cells] for row, cells in table.rows)
    headers = {"Content-Disposition": 'attachment; filename="runs.csv"'}
    return Response(csv_text([*FIELDS, *table.columns], rows), media_type="text/csv", headers=headers)


def curves(site: Site, request: Request) -> Response:
    """Curves of the runs `run` over one another, those of `stage` or of all stages that trained. Raises NotFound."""
    names = _names(request)
    details = [detail_of(site, name) for name in names]
    stages = list(dict.fromkeys(record.stage for detail in details for record in detail.stages if record.history))
    stage = request.query_params.get("stage", "")
    stage = stage if stage in stages else "rl" if "rl" in stages else next(iter(stages), "")
    groups = []
    if stage and (drawn := curves_of([stage_of(detail, stage) for detail in details])):
        groups = [(stage, link("/curves.json", run=names, stage=stage), drawn)]
    values = {"names": names, "stages": stages, "stage": stage, "groups": groups}
    return HTMLResponse(page("curves_of_runs.html", section="Runs", **values))


def points(site: Site, request: Request) -> Response:
    """The points of a stage's curves in some runs, as JSON. Raises NotFound."""
    names = _names(request)
    stage = request.query_params.get("stage", "")
    records = [stage_of(detail_of(site, name), stage) for name in names]
    return JSONResponse({"runs": names, "metrics": {curve.metric: curve.points for curve in curves_of(records)}})


def _names(request: Request) -> Sequence[str]:
    return list(dict.fromkeys(request.query_params.getlist("run")))[:MAX_CURVES]
