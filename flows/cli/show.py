"""`longhaul show`: what a run, a stage or an artifact is, and whether it is what today's recipe makes."""

import json
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.command import Command
from flows.cli.terminal import fail, format_duration, format_percent, json_option, printable, store_option
from flows.home import open_store, synced_index

if TYPE_CHECKING:
    from flows.staleness import Staleness, StalenessCheck
    from infra.lineage.graph import Node
    from infra.lineage.index import LineageIndex
    from infra.lineage.rows import RunDetail
    from infra.store.records import NoteRecord, StageRecord

STATES = {"current": "green", "stale": "yellow", "unknown": "dim"}


@click.command(cls=Command)
@click.argument("name")
@store_option
@json_option
def show(name: str, store: str, as_json: bool) -> None:
    """Show what NAME is and whether it is current: a run, RUN:STAGE, a stage of the newest run, a tag, or the beginning
    of a digest.

    A stage is current if today's code, recipe and data would make the same. Where it is stale, the reasons are those of
    `longhaul plan`, and the command brings it up to date.
    """
    from flows.notes import notes_of
    from flows.staleness import StalenessCheck

    opened = open_store(store)
    check = StalenessCheck(opened)
    with synced_index(opened) as (index, _):
        node = index.find(name)
        if node.kind == "run":
            detail = index.run(node.id.removeprefix("run:"))
            _show_run(detail, check, notes_of(opened, [detail.row.run]).get(detail.row.run, []), as_json)
        else:
            record = _record(index, node)
            evaluation = index.evaluation_of(record)
            _show_stage(record, check.of(record), evaluation, as_json)


def _record(index: "LineageIndex", node: "Node") -> "StageRecord":
    """The execution that a node is, or that made it."""
    around = index.upstream(node.id, 2 if node.kind == "tag" else 1) if node.kind in ("artifact", "tag") else None
    made = [each for each in (around.nodes if around else [node]) if each.kind == "execution"]
    if not made:
        fail(
            f"{node.label} was made by no stage: `longhaul show` is about runs, stages and what they made "
            f"(`longhaul lineage downstream {node.id}` shows what used it)"
        )
    return index.execution(made[0].facts["run"], made[0].facts["stage"])


def _show_run(detail: "RunDetail", check: "StalenessCheck", notes: "list[NoteRecord]", as_json: bool) -> None:
    states = {record.stage: check.of(record) for record in detail.stages}
    if as_json:
        data = {
            "run": asdict(detail.row),
            "start": detail.start.model_dump(mode="json") if detail.start else None,
            "end": detail.end.model_dump(mode="json") if detail.end else None,
            "stages": [record.model_dump(mode="json") for record in detail.stages],
            "staleness": [state.plain() for state in states.values()],
            "command": check.command(detail.row.run),
            "notes": [note.model_dump(mode="json") for note in notes],
        }
        click.echo(json.dumps(data))
        return
    console = Console()
    row = detail.row
    console.print(Text(printable(f"run {row.run}: {row.status}, started {row.started}"), "bold"))
    if detail.start:
        console.print(Text(printable(shlex.join(["longhaul", *detail.start.command])), "dim"))
    if detail.end and detail.end.error:
        console.print(Text(printable(detail.end.error), "red"))
    for note in notes:
        _print(console, f"note by {note.by}, {note.time}: {note.text}")
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in ("stage", "did", "now", "key", "took", "accuracy", "outputs"):
        wraps = column in ("did", "outputs")
        table.add_column(
            column, justify="right" if column in ("took", "accuracy") else "left", no_wrap=not wraps, overflow="fold"
        )
    for record in detail.stages:
        state = states[record.stage].state
        table.add_row(
            Text(printable(record.stage)),
            Text(printable(_did(record)), "red" if record.failure else ""),
            Text(state, STATES[state]),
            Text(printable(record.key[:8])),
            format_duration(record.seconds),
            format_percent(record.evaluation.accuracy if record.evaluation else None),
            Text(printable(", ".join(f"{name} {ref.digest[:8]}" for name, ref in record.outputs.items()))),
        )
    console.print(table)
    for stage, each in states.items():
        if each.state != "current" and each.reasons:
            _print(console, f"{stage} is {each.state}: {'; '.join(each.reasons)}")
    command = check.command(row.run)
    if command and any(each.state == "stale" for each in states.values()):
        _print(console, f"to bring it up to date: {command}")


def _show_stage(record: "StageRecord", state: "Staleness", evaluation: "StageRecord | None", as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"stage": record.model_dump(mode="json"), "staleness": state.plain()}))
        return
    console = Console()
    console.print(Text.assemble((printable(f"{record.stage} of run {record.run}: "), "bold"), (state.state, "bold")))
    for reason in state.reasons:
        _print(console, f"  {reason}")
    if state.compared_with:
        _print(console, f"  compared with {state.compared_with} as it is now")
    if state.command:
        _print(console, f"to bring it up to date: {state.command}")
    table = Table(box=box.SIMPLE, pad_edge=False, show_header=False)
    result = evaluation.evaluation if evaluation else None
    values = {
        "did": _did(record),
        "started": record.started,
        "took": format_duration(record.seconds),
        "key": record.key,
        **{f"output {name}": f"{ref.digest[:12]} ({ref.kind})" for name, ref in record.outputs.items()},
        **({"kept iterations": ", ".join(map(str, sorted(record.iterations)))} if record.iterations else {}),
        **({"evaluation": result.headline} if result else {}),
    }
    for name, value in values.items():
        table.add_row(Text(printable(name)), Text(printable(value)))
    console.print(table)


def _did(record: "StageRecord") -> str:
    if record.failure:
        return f"failed: {record.failure.error}"
    continued = f", continued from {record.forked_from}" if record.forked_from else ""
    return (f"reused from {record.reused_from}" if record.reused_from else "ran") + continued


def _print(console: Console, text: str) -> None:
    """A line as it is: a command must stay whole where it is longer than the terminal is wide."""
    console.print(Text(printable(text).replace("\n", " ")), soft_wrap=True)
