"""`longhaul check`: checks of what runs leave, for schedules and monitors. They fail with 1."""

import json
import math
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from flows.cli.command import Command, Group
from flows.cli.terminal import fail, json_option, printable, store_option, warn
from flows.home import open_store, synced_index


@click.group(cls=Group)
def check() -> None:
    """Check what runs leave; each check fails with 1."""


@check.command(cls=Command)
@click.option(
    "--days",
    default=14.0,
    show_default=True,
    type=click.FloatRange(0, 36500, min_open=True),
    help="Days within which a new model is expected.",
)
@click.option("--stage", metavar="STAGE", help="Only models of this stage count (default: all but imported ones).")
@click.option("--config", "config_path", help="A recipe, whose notify.webhook a failure is reported to.")
@store_option
@json_option
def freshness(days: float, stage: str | None, config_path: str | None, store: str, as_json: bool) -> None:
    """Fail if no new model was made for --days, and report it where --config names a recipe with `notify`.

    A run that makes the same bytes again makes no new model.
    """
    if math.isnan(days):  # no bound of a range refuses it
        fail("--days nan: expected a number of days, as in --days 14")
    from flows.freshness import check_freshness
    from flows.notify import send_report

    config = None
    if config_path is not None:
        from steps.recipe import load_recipe

        config = load_recipe(Path(config_path))
        if config.notify is None:
            fail(f"{config_path} has no section `notify`: add one, or leave --config out")
    with synced_index(open_store(store)) as (index, _):
        models = index.models(limit=2**31 - 1).rows
        result = check_freshness(models, timedelta(days=days), stage, datetime.now(UTC))
    if as_json:
        age = None if result.age is None else result.age / timedelta(days=1)
        model = result.model.digest if result.model else None
        click.echo(json.dumps({"passed": result.passed, "model": model, "age_days": age, "limit_days": days}))
    elif result.passed:
        click.echo(printable(result.summary))
    if result.passed:
        return
    if not as_json:
        warn(result.summary)
    if config is not None and config.notify is not None:
        command = shlex.join(["longhaul", "run", "--config", str(config_path)])
        if not send_report(config.notify, config.name, None, stage, result.summary, command):
            warn("the report was not delivered")
    sys.exit(1)
