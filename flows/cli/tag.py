"""`longhaul tag`: names for models that outlive runs, like `production`, with their history."""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.command import Command
from flows.cli.terminal import fail, json_option, printable, promotion_rules, store_option
from flows.home import open_store
from flows.user import user_name

TAG = re.compile(r"[a-z][a-z0-9-]{0,62}")


@click.command(cls=Command)
@click.argument("model", required=False)
@click.argument("name", metavar="TAG", required=False)
@store_option
@promotion_rules
@click.option("--force", is_flag=True, help="Set it although a gate fails; needs --reason.")
@click.option("--reason", default="", help="Why; kept in the history.")
@click.option("--remove", metavar="TAG", help="Remove a tag; its history stays.")
@click.option("--history", metavar="TAG", help="Show what a tag was set to, and when.")
@json_option
def tag(
    model: str | None,
    name: str | None,
    store: str,
    accuracy_drop: float,
    token_growth: float | None,
    force: bool,
    reason: str,
    remove: str | None,
    history: str | None,
    as_json: bool,
) -> None:
    """Give MODEL the name TAG, or list the tags.

    A tag moves only to a model that passes the gates of a promotion: its accuracy must not be below that of the model
    which the tag names now, on the same problems.
    """
    for each in (remove, history):
        if each is not None:
            _check_name(each)
    opened = open_store(store)
    if remove:
        _write(opened, remove, None, None, reason, [])
    elif model and name:
        _promote(opened, model, name, (accuracy_drop, token_growth), force, reason)
    elif model:
        fail(f"which tag? longhaul tag {model} TAG")
    else:
        _show(opened, history, as_json)


def _promote(store: Any, model: str, name: str, limits: tuple[float, float | None], force: bool, reason: str) -> None:
    from flows.models import find_evaluation, find_model_record, tagged
    from steps.promotion import PromotionRules, check_promotion

    _check_name(name)
    if force and not reason:
        fail("--force sets a tag against its gates: say why with --reason")
    ref, record = find_model_record(store, model)
    now = tagged(store, name)
    checks = []
    if now is not None and now.model is not None and now.model.digest != ref.digest:
        _, current = find_model_record(store, now.model.digest)
        new, old = find_evaluation(store, record), find_evaluation(store, current)
        checks = check_promotion(new, old, PromotionRules(*limits))
    refused = [check for check in checks if not check.passed]
    if refused and not force:
        fail(
            f"{name} stays where it is: {'; '.join(check.reason for check in refused)}. Allow it with --accuracy-drop "
            "or --token-growth, or set it against the gates with --force --reason WHY"
        )
    _write(store, name, ref, record, reason, [asdict(check) for check in checks])
    click.echo(f"{name}: {record.stage} of run {record.run} ({ref.digest[:12]})")


def _write(store: Any, name: str, ref: Any, record: Any, reason: str, checks: list[dict[str, Any]]) -> None:
    from flows.models import tagged
    from infra.store import records

    if ref is None and tagged(store, name) is None:
        fail(f"there is no tag {name!r}")
    set_to = records.TagRecord(
        tag=name,
        model=ref,
        stage=record.stage if record else None,
        run=record.run if record else None,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        by=user_name(),
        reason=reason,
        gates=checks,
    )
    records.write(store, f"tags/{name}", set_to)


def _check_name(name: str) -> None:
    if not TAG.fullmatch(name):
        fail(f"tag {name!r}: expected lowercase letters, digits and -, beginning with a letter")


def _show(store: Any, history: str | None, as_json: bool) -> None:
    from infra.store import records

    set_to = list(records.read(store, records.TagRecord, f"tags/{history}" if history else "tags"))
    if history and not set_to:
        fail(f"there is no tag {history!r}")
    if not history:
        newest = {record.tag: record for record in set_to}
        set_to = [record for record in newest.values() if record.model is not None]
    if as_json:
        click.echo(json.dumps({"tags": [record.model_dump(mode="json") for record in set_to]}))
        return
    if not set_to:
        click.echo("no model is tagged yet: longhaul tag MODEL TAG")
        return
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in ("tag", "model", "stage", "run", "set", "by", "reason"):
        table.add_column(column, no_wrap=column in ("tag", "model", "stage"), overflow="fold")
    for record in set_to:
        digest = record.model.digest[:12] if record.model else "removed"
        cells = (record.tag, digest, record.stage or "", record.run or "", record.time[:16], record.by, record.reason)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)
