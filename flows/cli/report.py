"""`longhaul report`: how each stage's model performed."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.command import Command
from flows.cli.terminal import json_option, printable, store_option
from flows.home import HOME, open_store

if TYPE_CHECKING:
    from steps.report.table import ModalityRow


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
    from steps.report.table import evaluated_models, modality_rows, report_rows, reward_model_rows

    records = run_records(open_store(store), run_name)
    rows, judges = report_rows(records), reward_model_rows(records)
    modalities = modality_rows(evaluated_models(records))
    if as_json:
        more = {"modalities": [each.plain() for each in modalities]} if modalities else {}
        click.echo(json.dumps({"stages": rows, "reward_models": judges, **more}))
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
    if modalities:
        console.print(_modalities(modalities))
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


def _modalities(rows: "Sequence[ModalityRow]") -> Table:
    caption = "drawn problems: accuracy on the same in text and as images, and the consistency gap between, in points"
    table = Table(title="by modality", caption=caption, box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in ("stage", "text", "tokens", "images", "tokens", "in text", "as images", "gap"):
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    for row in rows:
        shares = [
            text
            for one in (row.text, row.image)
            for text in (
                _number(one.accuracy if one else None, ".1%"),
                _number(one.mean_tokens if one else None, ".1f"),
            )
        ]
        twins = row.twins
        both = (twins.text_accuracy, twins.image_accuracy) if twins else (None, None)
        drawn = [_number(value, ".1%") for value in both]
        table.add_row(Text(printable(row.stage)), *shares, *drawn, _number(100 * twins.gap if twins else None, "+.1f"))
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
