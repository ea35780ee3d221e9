"""Tables of models and data, which are searched, sorted and paged; and the tags."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from infra.lineage.queries import models_by_digest
from infra.lineage.rows import Page
from infra.lineage.web.site import Site
from infra.lineage.web.templating import page
from infra.store.records import TagRecord

ROWS = 50
LONGEST_SEARCH = 200


@dataclass(frozen=True)
class ColumnHead:
    """A column's head."""

    name: str
    order: str | None = None
    """What the index calls the order by this column."""
    number: bool = False
    falling: bool = False
    """Whether the first click sorts the greatest first."""


RUNS = (
    ColumnHead("Run", "run"),
    ColumnHead("Status", "status"),
    ColumnHead("Recipe", "recipe"),
    ColumnHead("Started", "started", falling=True),
    ColumnHead("Took", "seconds", number=True, falling=True),
    ColumnHead("Stages", "stages", number=True, falling=True),
    ColumnHead("Last accuracy", "accuracy", number=True, falling=True),
    ColumnHead("Seed", "seed", number=True),
)
MODELS = (
    ColumnHead("Model of", "stage"),
    ColumnHead("Digest"),
    ColumnHead("Run", "run"),
    ColumnHead("Made", "started", falling=True),
    ColumnHead("Accuracy", "accuracy", number=True, falling=True),
    ColumnHead("Mean tokens", "mean_tokens", number=True),
    ColumnHead("Size", "size", number=True, falling=True),
    ColumnHead("Tags"),
)
DATA = (
    ColumnHead("Name", "name"),
    ColumnHead("From"),
    ColumnHead("Kind", "kind"),
    ColumnHead("Digest"),
    ColumnHead("Stage", "stage"),
    ColumnHead("Run", "run"),
    ColumnHead("Made", "started", falling=True),
    ColumnHead("Size", "size", number=True, falling=True),
)
NEWEST = "-started"


def models(site: Site, request: Request) -> Response:
    """Every model."""
    return _table(request, "Models", "model", "/models", MODELS, site.index.models)


def data(site: Site, request: Request) -> Response:
    """Files from outside, and every artifact other than a model."""
    return _table(request, "Data", "item", "/data", DATA, site.index.data)


def _table(
    request: Request, heading: str, noun: str, path: str, columns: Sequence[ColumnHead], rows: Callable[..., Page[Any]]
) -> Response:
    search = request.query_params.get("search", "")[:LONGEST_SEARCH].strip()
    requested = request.query_params.get("sort", NEWEST)
    sort = requested if requested.removeprefix("-") in {column.order for column in columns} else NEWEST
    offset = number_in(request, "offset", 0, 0, 10**9)
    listing = rows(text=search, limit=ROWS, offset=offset, order=sort)
    end = offset + len(listing.rows)
    summary = f"{listing.total:,} {noun}{'' if listing.total == 1 else 's'}" + (f" match “{search}”" if search else "")
    if listing.rows and listing.total > len(listing.rows):
        summary += f", {offset + 1:,} to {end:,} shown"
    html = page(
        f"{heading.lower()}.html",
        section=heading,
        heading=heading,
        path=path,
        columns=columns,
        page=listing,
        search=search,
        sort=sort,
        default_sort=NEWEST,
        sort_parameter=None if sort == NEWEST else sort,
        summary=summary,
        before=max(0, offset - ROWS) or None,
        after=end if end < listing.total else None,
    )
    return HTMLResponse(html)


def number_in(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number of the address, clipped to its bounds; the default for anything else."""
    try:
        return max(least, min(most, int(request.query_params.get(name, default))))
    except ValueError:
        return default


def tags(site: Site, request: Request) -> Response:
    """What every tag is set to."""
    return _tags(site, None, site.index.tags())


def tag(site: Site, request: Request) -> Response:
    """What a tag was set to, newest first."""
    name = request.path_params["tag"]
    return _tags(site, name, site.index.tag_history(name))


def _tags(site: Site, selected: str | None, rows: Sequence[TagRecord]) -> Response:
    # The table of models names the run that made a model: a tag's record may name one that reused it.
    made = models_by_digest(site.index, {row.model.digest for row in rows if row.model})
    return HTMLResponse(page("tags.html", section="Tags", selected=selected, rows=rows, made=made))
