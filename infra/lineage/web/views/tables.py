"""Tables of runs, models and data, which are searched, sorted and paged; and the tags."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from infra.lineage.rows import Page
from infra.lineage.web.site import Site
from infra.lineage.web.templating import page

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
    """Whether the first click puts the greatest first."""


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


def runs(site: Site, request: Request) -> Response:
    """Every run."""
    return _table(request, "Runs", "run", "/runs", RUNS, site.index.runs)


def models(site: Site, request: Request) -> Response:
    """Every model."""
    return _table(request, "Models", "model", "/models", MODELS, site.index.models)


def data(site: Site, request: Request) -> Response:
    """Files from outside, and every artifact that is no model."""
    return _table(request, "Data", "item", "/data", DATA, site.index.data)


def _table(
    request: Request, heading: str, noun: str, path: str, columns: Sequence[ColumnHead], rows: Callable[..., Page[Any]]
) -> Response:
    search = request.query_params.get("search", "")[:LONGEST_SEARCH].strip()
    wanted = request.query_params.get("sort", NEWEST)
    sort = wanted if wanted.removeprefix("-") in {column.order for column in columns} else NEWEST
    offset = number_in(request, "offset", 0, 0, 10**9)
    found = rows(text=search, limit=ROWS, offset=offset, order=sort)
    end = offset + len(found.rows)
    told = f"{found.total:,} {noun}{'' if found.total == 1 else 's'}" + (f" match “{search}”" if search else "")
    if found.rows and found.total > len(found.rows):
        told += f", {offset + 1:,} to {end:,} shown"
    html = page(
        f"{heading.lower()}.html",
        section=heading,
        heading=heading,
        path=path,
        columns=columns,
        page=found,
        search=search,
        sort=sort,
        default_sort=NEWEST,
        kept_sort=None if sort == NEWEST else sort,
        told=told,
        before=max(0, offset - ROWS) or None,
        after=end if end < found.total else None,
    )
    return HTMLResponse(html)


def number_in(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number of the address, brought into its bounds; the default for what is no number."""
    try:
        return max(least, min(most, int(request.query_params.get(name, default))))
    except ValueError:
        return default


def tags(site: Site, request: Request) -> Response:
    """What every tag is set to."""
    return HTMLResponse(page("tags.html", section="Tags", chosen=None, rows=site.index.tags()))


def tag(site: Site, request: Request) -> Response:
    """What a tag was set to, newest first."""
    name = request.path_params["tag"]
    rows = site.index.tag_history(name)
    return HTMLResponse(page("tags.html", section="Tags", chosen=name, rows=rows))
