"""The responses that a stage trained on, chosen by what they are and by what they say."""

import math
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from infra.lineage.errors import LineageError
from infra.lineage.sample_filter import SampleFilter, select_samples
from infra.lineage.sample_row import KIND
from infra.lineage.samples import SAMPLE_ORDERS
from infra.lineage.web.site import NotFound, Site
from infra.lineage.web.templating import link, page
from infra.lineage.web.views.tables import number_in
from infra.store.records import StageRecord
from infra.store.store import Ref

PAGE_SIZES = (25, 50, 100)
FIELDS = ("iteration", "outcome", "stop", "reward_from", "reward_to", "tokens_from", "tokens_to", "behaviour", "text")
LONGEST_TEXT = 300


def samples(site: Site, request: Request) -> Response:
    """A page of an artifact of samples. Raises NotFound, StoreError, SamplesError."""
    digest = request.path_params["digest"]
    ref, record = samples_of_address(site, digest)
    query = {name: request.query_params.get(name, "").strip()[:LONGEST_TEXT] for name in FIELDS}
    pattern = site.host.behaviours.get(query["behaviour"])
    chosen = SampleFilter(
        iteration=_whole(query["iteration"]),
        outcome=query["outcome"] or None,
        stop=query["stop"] or None,
        least_reward=_number(query["reward_from"]),
        greatest_reward=_number(query["reward_to"]),
        fewest_tokens=_whole(query["tokens_from"]),
        most_tokens=_whole(query["tokens_to"]),
        text=query["text"],
        pattern=pattern,
    )
    order = request.query_params.get("sort", "number")
    order = order if order.removeprefix("-") in SAMPLE_ORDERS else "number"
    size = number_in(request, "rows", PAGE_SIZES[0], 1, PAGE_SIZES[-1])
    offset = number_in(request, "from", 0, 0, 10**9)
    result = select_samples(site.store, ref, chosen, order, size, offset)
    own = {**query, "sort": order if order != "number" else None, "rows": size if size != PAGE_SIZES[0] else None}

    def at(**changed: Any) -> str:
        return link(f"/samples/{digest}", **(own | changed))

    return HTMLResponse(
        page(
            "samples.html",
            section="Data",
            digest=digest,
            stage=record.stage,
            run=record.run,
            result=result,
            query=query,
            filtered=any(query.values()),
            behaviours=site.host.behaviours,
            orders=SAMPLE_ORDERS,
            order=order,
            size=size,
            sizes=sorted({*PAGE_SIZES, size}),
            offset=offset,
            previous=at(**{"from": max(0, offset - size) or None}) if offset else None,
            next=at(**{"from": offset + size}) if offset + len(result.rows) < result.total else None,
            failed=at(reward_to=0, **{"from": None}),
        )
    )


def samples_of_address(site: Site, digest: str) -> tuple[Ref, StageRecord]:
    """The artifact of samples that an address names, and the record of the stage that left it. Raises NotFound."""
    try:
        node = site.index.node(f"artifact:{digest}")
        record = site.index.execution(str(node.facts["run"]), str(node.facts["stage"]))
    except (LineageError, KeyError) as error:
        raise NotFound(f"There are no samples {digest[:12]} here.") from error
    for ref in record.outputs.values():
        if ref.digest == digest and ref.kind == KIND:
            return ref, record
    raise NotFound(f"The artifact {digest[:12]} does not hold samples.")


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
