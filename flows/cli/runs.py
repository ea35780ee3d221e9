"""`longhaul runs`, `show` and `diff`: what ran, what a run did, and in what two runs differ."""

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import fail, printable, store_option, told_seconds
from flows.home import HOME, open_store

if TYPE_CHECKING:
    from infra.lineage.index import LineageIndex
    from infra.lineage.rows import RunDetail

STATUS = {"succeeded": "green", "failed": "red", "interrupted": "yellow", "running": "cyan"}


@click.command()
@click.argument("text", default="")
@store_option
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Newest runs to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def runs(text: str, store: str, limit: int, as_json: bool) -> None:
    """List the newest runs, or those with TEXT in them."""
    with closing(_index(store)) as index:
        page = index.runs(text, limit)
    if as_json:
        click.echo(json.dumps({"runs": [asdict(row) for row in page.rows], "total": page.total}))
        return
    caption = f"{len(page.rows)} of {page.total} runs"
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True, caption=caption)
    for column in ("run", "status", "stages", "reused", "took", "accuracy"):
        if column == "run":
            table.add_column(column, overflow="fold", min_width=24)
        elif column == "status":
            table.add_column(column, overflow="fold", max_width=13)
        else:
            table.add_column(column, justify="right", no_wrap=True)
    for row in page.rows:
        status = row.status if row.failed_stage is None else f"{row.status} at {row.failed_stage}"
        table.add_row(
            Text(printable(row.run)),
            Text(printable(status), STATUS.get(row.status, "")),
            str(row.stages),
            str(row.reused),
            "–" if row.seconds is None else told_seconds(row.seconds),
            "–" if row.accuracy is None else f"{row.accuracy:.1%}",
        )
    Console().print(table)


@click.command()
@click.argument("run")
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(run: str, store: str, as_json: bool) -> None:
    """Show what RUN did, stage by stage."""
    with closing(_index(store)) as index:
        detail = _detail(index, run)
    if as_json:
        told = {
            "run": asdict(detail.row),
            "start": detail.start.model_dump(mode="json") if detail.start else None,
            "end": detail.end.model_dump(mode="json") if detail.end else None,
            "stages": [record.model_dump(mode="json") for record in detail.stages],
        }
        click.echo(json.dumps(told))
        return
    console = Console()
    row = detail.row
    head = f"run {row.run}: {row.status}, started {row.started}"
    console.print(Text(printable(head), "bold"))
    if detail.start:
        console.print(Text(printable(f"longhaul {' '.join(detail.start.command)}"), "dim"))
    if detail.end and detail.end.error:
        console.print(Text(printable(detail.end.error), "red"))
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in ("stage", "did", "key", "took", "accuracy", "outputs"):
        wraps = column in ("did", "outputs")
        table.add_column(
            column, justify="right" if column in ("took", "accuracy") else "left", no_wrap=not wraps, overflow="fold"
        )
    for record in detail.stages:
        did = "ran"
        if record.failure:
            did = f"failed: {record.failure.error}"
        elif record.reused_from:
            did = f"reused from {record.reused_from}"
        accuracy = (record.evaluation or {}).get("accuracy")
        table.add_row(
            record.stage,
            Text(printable(did), "red" if record.failure else ""),
            record.key[:8],
            told_seconds(record.seconds),
            "–" if accuracy is None else f"{accuracy:.1%}",
            Text(", ".join(f"{name} {ref.digest[:8]}" for name, ref in record.outputs.items())),
        )
    console.print(table)


@click.command()
@click.argument("first")
@click.argument("second")
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(first: str, second: str, store: str, as_json: bool) -> None:
    """Show in what the runs FIRST and SECOND differ: configuration, code, data, packages and figures."""
    with closing(_index(store)) as index:
        one, two = _detail(index, first), _detail(index, second)
    stages = _stage_differences(one, two)
    figures = {stage: (_figures(one, stage), _figures(two, stage)) for stage in stages}
    if as_json:
        told = [{"stage": stage, "differences": found, "figures": [*figures[stage]]} for stage, found in stages.items()]
        click.echo(json.dumps({"runs": [first, second], "stages": told}))
        return
    console = Console()
    table = Table(title="what went in", box=box.SIMPLE, pad_edge=False)
    for column in ("stage", "what", first, second):
        table.add_column(printable(column), overflow="fold")
    for stage, found in stages.items():
        for each in found:
            table.add_row(stage, *(Text(printable(_cell(each[name]))) for name in ("name", "before", "after")))
    console.print(table if table.row_count else f"nothing differs in what went into {first} and {second}")
    table = Table(title="what came out", box=box.SIMPLE, pad_edge=False)
    for column in ("stage", "figure", first, second, "change"):
        table.add_column(printable(column), justify="left" if column in ("stage", "figure") else "right")
    for stage, (before, after) in figures.items():
        for name in dict.fromkeys([*before, *after]):
            values = before.get(name), after.get(name)
            change = "" if None in values else f"{values[1] - values[0]:+.4g}"  # type: ignore[operator]
            table.add_row(stage, name, *("–" if v is None else f"{v:.4g}" for v in values), change)
    console.print(table)


def _index(store: str) -> "LineageIndex":
    from infra.lineage.index import LineageIndex
    from infra.lineage.tables import LineageError
    from infra.store.store import StoreError

    try:
        place = open_store(store)
        index = LineageIndex.of(place, HOME)
        index.sync(place)
    except (StoreError, LineageError) as error:
        fail(str(error))
    return index


def _detail(index: "LineageIndex", run: str) -> "RunDetail":
    from infra.lineage.tables import LineageError

    try:
        return index.run(run)
    except LineageError as error:
        fail(str(error))


def _stage_differences(one: "RunDetail", two: "RunDetail") -> dict[str, list[dict[str, Any]]]:
    """By stage of either run; a stage that only one has is one difference."""
    from flows.plan import in_the_recipe
    from infra.stages.key import KeyParts

    before = {record.stage: record for record in one.stages}
    after = {record.stage: record for record in two.stages}
    found: dict[str, list[dict[str, Any]]] = {}
    for stage in dict.fromkeys([*before, *after]):
        if stage in before and stage in after:
            differences = KeyParts.of(after[stage]).differences(KeyParts.of(before[stage]))
            found[stage] = [vars(in_the_recipe(difference, stage)) for difference in differences]
        else:
            there = {"before": "ran" if stage in before else None, "after": "ran" if stage in after else None}
            found[stage] = [{"kind": "stage", "name": "the stage", **there}]
    return found


def _figures(detail: "RunDetail", stage: str) -> Mapping[str, float]:
    for record in detail.stages:
        if record.stage == stage:
            evaluation = record.evaluation or {}
            named = {name: evaluation.get(name) for name in ("accuracy", "mean_tokens", "p99_tokens")}
            numbers = {
                name: value
                for name, value in {**named, **record.metrics}.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            }
            return {**numbers, "seconds": record.seconds}
    return {}


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:12] if len(text) == 64 and text.isalnum() else text
