"""Prompts: searched by their text, and each with every model's answers, two of them side by side."""

import re
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from infra.lineage.errors import LineageError
from infra.lineage.graph import Node
from infra.lineage.prompt_digest import prompt_digest
from infra.lineage.prompt_search import AnswerSet, answers_in_evaluations, answers_in_samples, search_prompts
from infra.lineage.prompts import models_that_saw_prompt
from infra.lineage.web.site import NotFound, Site
from infra.lineage.web.templating import link, page

LONGEST_TEXT = 2000
MAX_EVALUATIONS = 100
"""Newest evaluations whose responses are looked through."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


def prompts(site: Site, request: Request) -> Response:
    """Prompts with a text or an image in them; a whole prompt's `text` or digest leads to its own page."""
    if whole := request.query_params.get("text", "")[:100_000]:
        return RedirectResponse(link(f"/prompts/{prompt_digest(whole)}"), 303)
    search = request.query_params.get("search", "")[:LONGEST_TEXT].strip()
    matches = search_prompts(site.index, site.store, search) if search else None
    if _DIGEST.fullmatch(search) and not (matches and matches.matches):  # else it is an image's
        return RedirectResponse(link(f"/prompts/{search}"), 303)
    return HTMLResponse(
        page("prompts.html", section="Prompts", search=search, matches=matches, whole=prompt_digest(search))
    )


@dataclass(frozen=True)
class DataFile:
    """A file that the stages which sampled a prompt go back to."""

    node: Node
    named: bool
    """Whether the samples name it as the place that the problem comes from."""


def prompt(site: Site, request: Request) -> Response:
    """A prompt by its digest: where it comes from, and all answers to it. Raises NotFound."""
    digest = request.path_params["digest"]
    if not _DIGEST.fullmatch(digest):
        raise NotFound("A prompt is named by its digest: 64 hexadecimal digits.")
    uses = models_that_saw_prompt(site.index, site.store, digest)
    sets: list[AnswerSet] = [
        *answers_in_samples(site.store, uses.uses, digest),
        *answers_in_evaluations(site.index, digest, MAX_EVALUATIONS),
    ]
    if not sets:
        why = f" {uses.problems[0].splitlines()[0]}" if uses.problems else ""
        raise NotFound(f"No samples here and none of the newest evaluations have this prompt.{why}")
    left = _named(sets, request.query_params.get("a")) or sets[0]
    # Unless both are named, those of another execution stand beside the first.
    right = _named(sets, request.query_params.get("b")) or next((each for each in sets if each is not left), None)
    values: dict[str, Any] = {
        "digest": digest,
        "pictured": next((each for each in sets if each.images), sets[0]),
        "text": sets[0].prompt,
        "uses": uses,
        "sets": sets,
        "sides": [left, *([right] if right else [])],
        "sources": _sources(site, sets),
        "source_names": sorted({each.source for each in sets if each.source}),
    }
    return HTMLResponse(page("prompt.html", section="Prompts", **values))


def _named(sets: list[AnswerSet], key: str | None) -> AnswerSet | None:
    """The answers that an address names."""
    return next((each for each in sets if each.key == key), None)


def _sources(site: Site, sets: list[AnswerSet]) -> list[DataFile]:
    """The files that the answers' executions go back to; those that the samples name come first."""
    names = {each.source for each in sets if each.source}
    files: dict[str, DataFile] = {}
    for node in {each.node for each in sets[:6]}:
        try:
            above = site.index.upstream(node, limit=400)
        except LineageError:
            continue
        for each in above.nodes:
            if each.kind == "source":
                named = any(each.label == name or each.label.endswith(f"/{name}") for name in names)
                files[each.id] = DataFile(each, named)
    return sorted(files.values(), key=lambda file: (not file.named, file.node.label))
