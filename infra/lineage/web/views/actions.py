"""Actions: what would be done, its confirmation, and what came of it. They exist only where the server allows them."""

import re
from collections.abc import Mapping
from typing import get_args
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from infra.lineage.errors import LineageError
from infra.lineage.queries import models_by_digest
from infra.lineage.web.confirmation import ActionRefused, Confirmations, check_origin
from infra.lineage.web.host import Action, ActionKind, Actions
from infra.lineage.web.security import LONGEST_FORM
from infra.lineage.web.site import NotFound, Site
from infra.lineage.web.templating import link, page

TAG = re.compile(r"[a-z][a-z0-9-]{0,62}")
LONGEST_REASON = 500
HEADINGS: dict[ActionKind, str] = {
    "rerun": "Run again from a stage",
    "stop": "Stop a run",
    "trigger": "Run a schedule now",
    "pause": "Pause a schedule",
    "resume": "Resume a schedule",
    "tag": "Set a tag",
}

# A browser sends `Origin: null` from a page that forbids referrers, and the origin is what is checked.
HEADERS = {"Referrer-Policy": "same-origin"}


def confirm(site: Site, request: Request, confirmations: Confirmations) -> Response:
    """The page that asks for a confirmation. Raises NotFound, ActionRefused."""
    actions = _allowed(site)
    action = _action(request.query_params)
    complete = action.kind != "tag" or bool(action.detail)
    command = ""
    if complete:
        _check(site, action)
        command = _command(actions, action)
    html = page(
        "action.html",
        section="",
        heading=HEADINGS[action.kind],
        action=action,
        command=command,
        complete=complete,
        confirmation=confirmations.issue(action) if complete else "",
        back=_back(action),
        result=None,
    )
    return HTMLResponse(html, headers=HEADERS)


def perform(site: Site, request: Request, body: bytes, confirmations: Confirmations) -> Response:
    """Do what was confirmed. Raises NotFound, ActionRefused."""
    actions = _allowed(site)
    check_origin(request)
    form = {name: values[0] for name, values in parse_qs(body.decode("latin-1"), encoding="utf-8").items()}
    action = _action(form)
    with confirmations.take(form.get("confirmation", ""), action):
        _check(site, action)
        try:
            result = actions.perform(action)
        except ValueError as error:
            raise ActionRefused(str(error), 409) from error
    html = page(
        "action.html",
        section="",
        heading=HEADINGS[action.kind],
        action=action,
        command="",
        complete=True,
        confirmation="",
        back=_back(action),
        result=result,
    )
    return HTMLResponse(html, 200 if result.done else 409, headers=HEADERS)


async def body_of(request: Request) -> bytes:
    """A form's bytes. Raises ActionRefused for one that is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            raise ActionRefused("The form is too long.", 413)
    return body


def _allowed(site: Site) -> Actions:
    if site.host.actions is None:
        raise NotFound("Nothing can be done from this page: --allow-actions allows it.")
    return site.host.actions


def _action(values: Mapping[str, str]) -> Action:
    """Raises NotFound for what is not an action."""
    kind = values.get("kind", "")
    if kind not in get_args(ActionKind):
        raise NotFound(f"There is no such action; there are {', '.join(get_args(ActionKind))}.")
    target, detail = (values.get(name, "").strip()[:LONGEST_REASON] for name in ("target", "detail"))
    reason = " ".join(values.get("reason", "").split())[:LONGEST_REASON]
    return Action(kind, target, detail, reason)  # type: ignore[arg-type]


def _command(actions: Actions, action: Action) -> str:
    try:
        return actions.command(action)
    except ValueError as error:
        raise ActionRefused(str(error), 409) from error


def _check(site: Site, action: Action) -> None:
    """Raise ActionRefused for an action that cannot be done as things stand."""
    if action.kind in ("rerun", "stop"):
        try:
            detail = site.index.run(action.target)
        except LineageError as error:
            raise ActionRefused(str(error), 404) from error
        status = detail.row.status
        if action.kind == "stop" and status != "running":
            raise ActionRefused(f"Run {action.target} has ended ({status}): there is nothing to stop.", 409)
        if action.kind == "rerun" and status == "running":
            raise ActionRefused(f"Run {action.target} is running: stop it first, or wait for its end.", 409)
        if action.kind == "rerun" and action.detail not in {record.stage for record in detail.stages}:
            raise ActionRefused(f"Run {action.target} has no stage {action.detail!r}.", 404)
    elif action.kind == "tag":
        if not TAG.fullmatch(action.detail):
            raise ActionRefused(
                f"Tag {action.detail!r}: expected lowercase letters, digits and -, beginning with a letter.", 409
            )
        if not models_by_digest(site.index, [action.target]):
            raise ActionRefused(f"There is no model {action.target[:12]!r}.", 404)
    else:
        known = site.host.schedules().schedules if site.host.schedules is not None else ()
        if action.target not in {schedule.name for schedule in known}:
            raise ActionRefused(f"There is no schedule {action.target!r}.", 404)


def _back(action: Action) -> str:
    """Where the action's target is displayed."""
    if action.kind in ("rerun", "stop"):
        return link(f"/runs/{action.target}")
    return link("/graph", node=f"artifact:{action.target}") if action.kind == "tag" else "/schedules"
