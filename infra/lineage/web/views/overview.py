"""The first page: what runs, what failed, what is stale, what is in production; and the failures in full."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from infra.lineage.failures import FailedRun, failed_runs
from infra.lineage.queries import models_by_digest, newest_run_of_chain, run_before, running_runs
from infra.lineage.rows import ModelRow, RunDetail, RunRow
from infra.lineage.sample_row import KIND
from infra.lineage.web.host import ChainStatus, StageStatus
from infra.lineage.web.live import SILENT_SECONDS, RunState
from infra.lineage.web.log_tail import log_tail
from infra.lineage.web.site import Site
from infra.lineage.web.summaries import StageRow, stage_rows
from infra.lineage.web.templating import page
from infra.lineage.web.views.tables import number_in
from infra.store.evaluation_stages import evaluation_stage
from infra.store.records import TagRecord

RUNNING = 5
FAILURES = 4
FAILURES_A_PAGE = 20


@dataclass(frozen=True)
class RunningRun:
    """A run that has not ended."""

    row: RunRow
    progress: RunState | None
    silent: float | None
    """Seconds without progress, where they are many."""


@dataclass(frozen=True)
class ChainStage:
    """A stage in the drawing of the chain."""

    name: str
    state: str
    """succeeded, reused, failed or running."""
    node: str | None
    accuracy: float | None
    seconds: float | None
    """Its own; None where it was reused or still runs."""
    samples: str | None = None
    """Digest of the responses that it left."""
    today: StageStatus | None = None
    evaluation_today: StageStatus | None = None
    """Of the evaluation of its model."""


@dataclass(frozen=True)
class Production:
    """What a tag is set to."""

    record: TagRecord
    model: ModelRow | None
    today: StageStatus | None
    """Of the stage that made the model, where that is a stage of the displayed chain."""
    samples: str | None
    """Digest of the responses that the model was trained on."""


def overview(site: Site, request: Request) -> Response:
    """The first page."""
    newest = newest_run_of_chain(site.index)
    detail = site.index.run(newest) if newest else None
    today = status_today(site, detail)
    tags = site.index.tags()
    models = models_by_digest(site.index, {tag.model.digest for tag in tags if tag.model})
    failures = failed_runs(site.index, FAILURES)
    stages = stage_rows(detail.stages) if detail else []
    values: dict[str, Any] = {
        "running": [_running(site, row) for row in running_runs(site.index, RUNNING)],
        "failures": failures,
        "unresolved": [each for each in failures.rows if not each.resolved],
        "detail": detail,
        "chain": _chain(site, detail, stages, today),
        "before": run_before(site.index, detail.row) if detail else None,
        "today": today,
        "computes": site.host.staleness is not None and detail is not None,
        "production": [
            _production(site, tag, models.get(tag.model.digest) if tag.model else None, detail, today) for tag in tags
        ],
    }
    return HTMLResponse(page("overview.html", section="Overview", **values))


def status_today(site: Site, detail: RunDetail | None) -> ChainStatus | None:
    """How a run compares with today; None where that is not known, or not yet."""
    return site.host.staleness(detail) if site.host.staleness is not None and detail is not None else None


def _running(site: Site, row: RunRow) -> RunningRun:
    progress = site.live.state(row.run)
    silence = time.time() - progress.last if progress and progress.last else 0.0
    return RunningRun(row, progress, silence if silence > SILENT_SECONDS else None)


def _chain(
    site: Site, detail: RunDetail | None, stages: Sequence[StageRow], today: ChainStatus | None
) -> list[ChainStage]:
    if detail is None:
        return []
    statuses = today.stages if today else {}
    drawn = [
        ChainStage(
            row.record.stage,
            row.state,
            row.node,
            row.accuracy,
            None if row.record.reused_from else row.record.seconds,
            next((ref.digest for ref in row.record.outputs.values() if ref.kind == KIND), None),
            statuses.get(row.record.stage),
            statuses.get(evaluation_stage(row.record.stage)),
        )
        for row in stages
    ]
    progress = site.live.state(detail.row.run) if detail.row.status == "running" else None
    present = {stage.name for stage in drawn}
    running = [stage.name for stage in progress.running if stage.name not in present] if progress else []
    return drawn + [ChainStage(name, "running", None, None, None) for name in running]


def _production(
    site: Site, tag: TagRecord, model: ModelRow | None, detail: RunDetail | None, today: ChainStatus | None
) -> Production:
    samples = None
    if model and model.run and model.stage:
        outputs = site.index.execution(model.run, model.stage).outputs.values()
        samples = next((ref.digest for ref in outputs if ref.kind == KIND), None)
    return Production(tag, model, _of_model(tag, detail, today), samples)


def _of_model(tag: TagRecord, detail: RunDetail | None, today: ChainStatus | None) -> StageStatus | None:
    if tag.model is None or detail is None or today is None:
        return None
    for record in detail.stages:
        if any(ref.digest == tag.model.digest for ref in record.outputs.values()):
            return today.stages.get(record.stage)
    return None


@dataclass(frozen=True)
class FailureCard:
    """A failed run with what helps to see why, and what runs it again."""

    failed: FailedRun
    logs: Sequence[tuple[str, str]]
    """Name and last lines of each log that is on this machine."""
    command: str


def failures(site: Site, request: Request) -> Response:
    """Runs that failed, newest first, with the last lines of their logs and the command that runs them again."""
    offset = number_in(request, "offset", 0, 0, 10**9)
    listing = failed_runs(site.index, FAILURES_A_PAGE, offset)
    end = offset + len(listing.rows)
    return HTMLResponse(
        page(
            "failures.html",
            section="Failures",
            listing=listing,
            cards=[_card(site, each) for each in listing.rows],
            before=max(0, offset - FAILURES_A_PAGE) or None,
            after=end if end < listing.total else None,
            end=end,
        )
    )


def _card(site: Site, failed: FailedRun) -> FailureCard:
    records = [stage.record for stage in failed.stages]
    logs = [(each.stage, log_tail(site.home, each.failure.log if each.failure else None)) for each in records]
    whole = log_tail(site.home, str(site.home / "runs" / failed.row.run / "metaflow.log"))
    if not any(text for _, text in logs):
        logs = [("the run", whole)]
    command = f"longhaul {shlex.join(failed.command)}" if failed.command else ""
    return FailureCard(failed, [(name, text) for name, text in logs if text], command)
