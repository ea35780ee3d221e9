"""Schedules of the machine that serves the page: next times, what was done, what each started."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from infra.lineage.rows import RunRow
from infra.lineage.run_table import runs_by_name
from infra.lineage.web.host import ScheduleEntry, ScheduleStatus
from infra.lineage.web.site import Site
from infra.lineage.web.templating import page


@dataclass(frozen=True)
class DisplayedEntry:
    """A line of a schedule's history, with the run that it started, if the index knows it."""

    entry: ScheduleEntry
    run: RunRow | None


def schedules(site: Site, request: Request) -> Response:
    """All schedules."""
    listing = site.host.schedules() if site.host.schedules is not None else None
    entries = [entry for each in (listing.schedules if listing else ()) for entry in each.history]
    known = runs_by_name(site.index, {entry.run for entry in entries if entry.run})

    def displayed(status: ScheduleStatus) -> Sequence[DisplayedEntry]:
        return [DisplayedEntry(entry, known.get(entry.run or "")) for entry in status.history]

    return HTMLResponse(
        page(
            "schedules.html",
            section="Schedules",
            listing=listing,
            schedules=[(each, displayed(each)) for each in (listing.schedules if listing else ())],
            actions=site.host.actions is not None,
        )
    )
