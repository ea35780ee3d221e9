"""Each gate's figures over all runs, and the benchmarks of all models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from infra.lineage.queries import newest_executions, newest_runs_of_chain
from infra.lineage.row_values import number
from infra.lineage.web.curves import Curve
from infra.lineage.web.site import Site
from infra.lineage.web.summaries import execution_id, gates_of, mappings
from infra.lineage.web.templating import link, page
from infra.store.evaluation import BenchmarkResult
from infra.store.records import StageRecord

MAX_EXECUTIONS = 100
MAX_EVALUATIONS = 100
KNOWN_FROM = 3
"""Newest runs whose gates are offered."""


@dataclass(frozen=True)
class GateEntry:
    """A gate's result in one execution."""

    record: StageRecord
    node: str
    state: str
    figures: Mapping[str, float]
    """By name: `rows`, and of each rule what it observed and how many rows broke it."""


def gates(site: Site, request: Request) -> Response:
    """A gate's history: `stage` and `gate`; without them the first of the newest runs."""
    known = _known(site)
    chosen = (request.query_params.get("stage", ""), request.query_params.get("gate", ""))
    if not all(chosen):
        chosen = next(iter(known), ("", ""))
    entries = _entries(site, *chosen) if all(chosen) else []
    names = list(dict.fromkeys(name for entry in entries for name in entry.figures))
    address = link("/gates.json", stage=chosen[0], gate=chosen[1])
    values: dict[str, Any] = {
        "known": known,
        "stage": chosen[0],
        "gate": chosen[1],
        "entries": entries,
        "figures": names,
        "groups": [(f"{chosen[0]}: {chosen[1]}", address, _curves(entries))] if len(entries) > 1 else [],
        "names": ["every run, oldest first"],
    }
    return HTMLResponse(page("gates.html", section="Gates", **values))


def points(site: Site, request: Request) -> Response:
    """A gate's figures as points of curves, one for each execution, oldest first."""
    entries = _entries(site, request.query_params.get("stage", ""), request.query_params.get("gate", ""))
    metrics = {curve.metric: curve.points | {"of": "execution"} for curve in _curves(entries)}
    return JSONResponse({"runs": ["every run"], "metrics": metrics})


def _known(site: Site) -> list[tuple[str, str]]:
    # Of several runs: the newest may not be so far yet.
    records = [record for run in newest_runs_of_chain(site.index, KNOWN_FROM) for record in site.index.run(run).stages]
    return list(dict.fromkeys((record.stage, gate.name) for record in records for gate in gates_of(record)))


def _entries(site: Site, stage: str, gate: str) -> list[GateEntry]:
    """A gate's results, newest first."""
    entries = []
    for record in newest_executions(site.index, stage, MAX_EXECUTIONS):
        for summary, raw in zip(gates_of(record), record.gates, strict=True):
            if summary.name == gate:
                entries.append(GateEntry(record, execution_id(record), summary.state, _figures(raw)))
    return entries


def _figures(raw: Mapping[str, Any]) -> dict[str, float]:
    values: dict[str, float | None] = {"rows": number(raw.get("rows"))}
    for check in mappings(raw.get("checks")):
        rule = str(check.get("rule") or check.get("expectation") or "rule")
        values[rule] = number(check.get("observed"))
        values[f"{rule}: rows that broke it"] = number(check.get("unexpected"))
    return {name: value for name, value in values.items() if value is not None}


def _curves(entries: Sequence[GateEntry]) -> list[Curve]:
    oldest_first = list(reversed(entries))
    names = list(dict.fromkeys(name for entry in oldest_first for name in entry.figures))
    return [Curve(name, ([entry.figures.get(name) for entry in oldest_first],)) for name in names]


@dataclass(frozen=True)
class BenchmarkRow:
    """An evaluated model, and its result on each benchmark."""

    record: StageRecord
    node: str
    model: str | None
    """The model's node."""
    results: Mapping[str, BenchmarkResult]


def benchmarks(site: Site, request: Request) -> Response:
    """Models by benchmarks, newest evaluation first."""
    rows = []
    for record in site.index.newest_evaluations(MAX_EVALUATIONS):
        if record.evaluation is not None and record.evaluation.benchmarks:
            model = record.inputs.get("model") or record.outputs.get("model")
            rows.append(
                BenchmarkRow(
                    record,
                    execution_id(record),
                    f"artifact:{model.digest}" if model else None,
                    record.evaluation.benchmarks,
                )
            )
    names = list(dict.fromkeys(name for row in rows for name in row.results))
    titles = {name: row.results[name].title for row in rows for name in row.results}
    best = {name: max(row.results[name].accuracy for row in rows if name in row.results) for name in names}
    values = {"rows": rows, "benchmarks": names, "titles": titles, "best": best, "looked_at": MAX_EVALUATIONS}
    return HTMLResponse(page("benchmarks.html", section="Benchmarks", **values))
