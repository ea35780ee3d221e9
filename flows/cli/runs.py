"""`longhaul runs` and `diff`: what ran, and how two runs differ."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.command import Command
from flows.cli.run_tables import (
    cell,
    choose_runs,
    columns_option,
    csv_option,
    one_form,
    sort_option,
    split_columns,
    where_option,
)
from flows.cli.terminal import format_duration, format_percent, json_option, printable, store_option
from flows.home import open_store, synced_index

if TYPE_CHECKING:
    from infra.lineage.index import LineageIndex
    from infra.lineage.rows import RunDetail

STATUS = {"succeeded": "green", "failed": "red", "interrupted": "yellow", "running": "cyan"}


@click.command(cls=Command)
@click.argument("text", default="")
@store_option
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Runs to show.")
@columns_option("run, status, stages, reused, seconds, accuracy")
@where_option
@sort_option
@json_option
@csv_option
def runs(
    text: str,
    store: str,
    limit: int,
    columns: str | None,
    conditions: tuple[str, ...],
    order: str | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List the newest runs, or those with TEXT in their name, recipe, status or failed stage."""
    one_form(as_json, as_csv)
    chosen = split_columns(columns)
    if chosen or conditions or order or as_csv:
        _list_chosen(text, store, limit, chosen, conditions, order, as_json, as_csv)
        return
    from flows.notes import notes_of

    with _opened(store) as index:
        page = index.runs(text, limit)
    notes = notes_of(open_store(store), [row.run for row in page.rows])
    if as_json:
        rows = [asdict(row) | {"notes": [note.text for note in notes.get(row.run, [])]} for row in page.rows]
        click.echo(json.dumps({"runs": rows, "total": page.total}))
        return
    caption = f"{len(page.rows)} of {page.total} runs"
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True, caption=caption)
    for column in ("run", "status", "stages", "reused", "took", "accuracy", *(["notes"] if notes else [])):
        if column == "run":
            table.add_column(column, overflow="fold", min_width=24)
        elif column in ("status", "notes"):
            table.add_column(column, overflow="fold", max_width=13 if column == "status" else 40)
        else:
            table.add_column(column, justify="right", no_wrap=True)
    for row in page.rows:
        status = row.status if row.failed_stage is None else f"{row.status} at {row.failed_stage}"
        table.add_row(
            Text(printable(row.run)),
            Text(printable(status), STATUS.get(row.status, "")),
            str(row.stages),
            str(row.reused),
            "–" if row.seconds is None else format_duration(row.seconds),
            format_percent(row.accuracy),
            *([Text(printable(" · ".join(note.text for note in notes.get(row.run, []))))] if notes else []),
        )
    Console().print(table)


def _list_chosen(
    text: str,
    store: str,
    limit: int,
    chosen: list[str],
    conditions: tuple[str, ...],
    order: str | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    from infra.flatten import flatten
    from infra.lineage.csv_text import csv_text
    from infra.lineage.run_table import recipes_of
    from infra.lineage.run_values import FIELDS

    columns = list(dict.fromkeys(["run", *(chosen or ["status", "stages", "reused", "seconds", "accuracy"])]))
    with _opened(store) as index:
        table = choose_runs(index, text, conditions, order, columns, limit)
        keys = [column for column in columns if column not in FIELDS and ":" not in column]
        # The table has a number or a text for each key; the recipes have them as they were.
        recipes = recipes_of(index, [row.run for row, _ in table.rows]) if keys else {}
    rows: list[list[Any]] = []
    for row, cells in table.rows:
        settings = flatten(recipes.get(row.run, {}))
        rows.append([settings.get(name) if name in keys else each for name, each in zip(columns, cells, strict=True)])
    if as_json:
        listed = [dict(zip(columns, row, strict=True)) for row in rows]
        click.echo(json.dumps({"runs": listed, "total": table.total}))
        return
    if as_csv:
        click.echo(csv_text(columns, rows), nl=False)
        return
    caption = f"{len(rows)} of {table.total} runs"
    printed = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True, caption=caption)
    for column in columns:
        printed.add_column(Text(printable(column)), justify="left" if column == "run" else "right", overflow="fold")
    for values in rows:
        printed.add_row(*(Text(cell(column, value)) for column, value in zip(columns, values, strict=True)))
    Console().print(printed)


@click.command(cls=Command)
@click.argument("first")
@click.argument("second")
@store_option
@json_option
def diff(first: str, second: str, store: str, as_json: bool) -> None:
    """Show how the runs FIRST and SECOND differ: in configuration, code, data, packages and results.

    `accuracy` and token counts are of the held-out evaluation; what a stage measured in training is named so.
    """
    from infra.lineage.run_values import stage_figures
    from infra.store.evaluation_stages import evaluated_stage

    with _opened(store) as index:
        one, two = index.run(first), index.run(second)
    stages = _stage_differences(one, two)
    figures = {stage: (stage_figures(one.stages, stage), stage_figures(two.stages, stage)) for stage in stages}
    if as_json:
        rows = [{"stage": stage, "differences": each, "figures": [*figures[stage]]} for stage, each in stages.items()]
        click.echo(json.dumps({"runs": [first, second], "stages": rows}))
        return
    console = Console()
    table = Table(title="what went in", box=box.SIMPLE, pad_edge=False)
    for column in ("stage", "what", first, second):
        table.add_column(Text(printable(column)), overflow="fold")
    for stage, differences in stages.items():
        if _follows(stage, differences, stages):
            continue
        for each in differences:
            cells = (stage, *(_cell(each[name]) for name in ("name", "before", "after")))
            table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table if table.row_count else Text(printable(f"{first} and {second} had the same inputs")))
    table = Table(title="what came out", box=box.SIMPLE, pad_edge=False)
    for column in ("stage", "figure", first, second, "change"):
        table.add_column(Text(printable(column)), justify="left" if column in ("stage", "figure") else "right")
    for stage, (before, after) in figures.items():
        if evaluated_stage(stage) in stages:  # its figures are those of the stage whose model it evaluated
            continue
        for name in dict.fromkeys([*before, *after]):
            values = before.get(name), after.get(name)
            change = "" if None in values else f"{values[1] - values[0]:+.4g}"  # type: ignore[operator]
            numbers = ("–" if value is None else f"{value:.4g}" for value in values)
            table.add_row(Text(printable(stage)), Text(printable(name)), *numbers, change)
    console.print(table)


@contextmanager
def _opened(store: str) -> "Iterator[LineageIndex]":
    """The index of a store, with the newest records in it."""
    opened = open_store(store)
    with synced_index(opened) as (index, _):
        yield index


def _stage_differences(one: "RunDetail", two: "RunDetail") -> dict[str, list[dict[str, Any]]]:
    """By stage of either run; a stage that only one has is one difference."""
    from flows.plan import in_the_recipe
    from infra.stages.key import KeyParts, other_bytes

    before = {record.stage: record for record in one.stages}
    after = {record.stage: record for record in two.stages}
    changes: dict[str, list[dict[str, Any]]] = {}
    for stage in dict.fromkeys([*before, *after]):
        if stage in before and stage in after:
            differences = KeyParts.of(after[stage]).differences(KeyParts.of(before[stage]))
            differences = differences or other_bytes(before[stage], after[stage])
            changes[stage] = [in_the_recipe(difference, stage).plain() for difference in differences]
        else:
            there = {"before": "ran" if stage in before else None, "after": "ran" if stage in after else None}
            changes[stage] = [{"kind": "stage", "name": "the stage", **there}]
    return changes


def _follows(stage: str, differences: list[dict[str, Any]], stages: Mapping[str, Any]) -> bool:
    """Whether a stage is the evaluation of another in the table, and nothing but that one's model differs."""
    from infra.store.evaluation_stages import evaluated_stage

    return evaluated_stage(stage) in stages and all(
        (each["kind"], each["name"]) == ("input", "model") for each in differences
    )


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:12] if len(text) == 64 and text.isalnum() else text
