"""`longhaul report`: how each stage's model performed."""

import json
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.command import Command
from flows.cli.terminal import json_option, printable, store_option
from flows.home import HOME, open_store


@click.command(cls=Command)
@click.option("--run", "run_name", help="A run's name (default: the newest).")
@store_option
@json_option
def report(run_name: str | None, store: str, as_json: bool) -> None:
    """Show how each stage's model performed."""
    print_report(store, run_name, as_json)


def print_report(store: str, run_name: str | None, as_json: bool) -> None:
    """Print the table of a run, or of the newest one. Raises ModelNotFound if there is no such run."""
    from flows.models import run_records
    from steps.report.table import report_rows, reward_model_rows

    records = run_records(open_store(store), run_name)
    rows, judges = report_rows(records), reward_model_rows(records)
    if as_json:
        click.echo(json.dumps({"stages": rows, "reward_models": judges}))
        return
    caption = "tokens: of a response, mean and 99th percentile"
    title = Text(printable(f"run {records[0].run}"))
    table = Table(title=title, caption=caption, box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in ("stage", "model", "accuracy", "tokens", "p99", "seconds", "peak MB"):
        table.add_column(column, justify="left" if column in ("stage", "model") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(printable(row["stage"])),
            Text(printable(row["model"] or "–")),
            _number(row["accuracy"], ".1%"),
            _number(row["mean_tokens"], ".1f"),
            _number(row["p99_tokens"], ".0f"),
            _number(row["seconds"], ".0f"),
            _number(row["peak_memory_mb"], ".0f"),
        )
    console = Console()
    console.print(table)
    if judges:
        console.print(_reward_models(judges))
    page = HOME / "runs" / records[0].run / "report.html"
    if page.exists():
        console.print(Text(printable(f"report: {page}")))


def _reward_models(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="reward models, by spot check", box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in ("model", "accuracy", "in the report", "answers", "no verdict", "wrong called right"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for row in rows:
        shares = [_number(row[key], ".1%") for key in ("accuracy", "reported")]
        counts = [_number(row[key], "d") for key in ("answers", "no_verdict", "wrong_called_right")]
        table.add_row(Text(printable(row["model"])), *shares, *counts)
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
