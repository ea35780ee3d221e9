"""`longhaul lineage`: what a model was made from, what a file influenced, what differs, what would rerun; exports."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from flows.cli.command import Group
from flows.cli.lineage_serve import serve
from flows.cli.samples import samples
from flows.cli.terminal import (
    fail,
    format_duration,
    format_percent,
    index_option,
    json_option,
    printable,
    store_option,
    warn,
)
from flows.home import open_store, synced_index

if TYPE_CHECKING:
    from infra.lineage.graph import Subgraph
    from infra.lineage.index import LineageIndex
    from infra.lineage.prompts import PromptUses
    from infra.lineage.rows import ModelRow
    from infra.store.store import Store

SHOWN_NODES = 500
"""Nodes of a tree; --json has all of them."""

depth_option = click.option("--depth", type=click.IntRange(1), help="Edges to follow at most (default: all).")


@click.group(cls=Group)
def lineage() -> None:
    """Trace models, data and prompts through all runs.

    A NAME is a run, RUN:STAGE, a stage of the newest run that has it, a tag, the beginning of a digest, a file's
    address or its end, or a node's id.
    """


lineage.add_command(samples)
lineage.add_command(serve)


@contextmanager
def _synced(store: str, url: str | None) -> Iterator[tuple["LineageIndex", "Store"]]:
    """The index of a store, with the newest records in it."""
    opened = open_store(store)
    with synced_index(opened, url) as (index, _):
        yield index, opened


@lineage.command()
@click.argument("name")
@depth_option
@store_option
@index_option
@json_option
def upstream(name: str, depth: int | None, store: str, url: str | None, as_json: bool) -> None:
    """Show everything that NAME was made from."""
    with _synced(store, url) as (index, _):
        id = index.find(name).id
        _show_graph(index.upstream(id, depth, None if as_json else SHOWN_NODES), "upstream", as_json)


@lineage.command()
@click.argument("name")
@depth_option
@store_option
@index_option
@json_option
def downstream(name: str, depth: int | None, store: str, url: str | None, as_json: bool) -> None:
    """Show everything that was made from NAME."""
    with _synced(store, url) as (index, _):
        id = index.find(name).id
        _show_graph(index.downstream(id, depth, None if as_json else SHOWN_NODES), "downstream", as_json)


@lineage.command("saw")
@click.argument("name", metavar="FILE_OR_PROMPT")
@store_option
@index_option
@json_option
def models_by_data(name: str, store: str, url: str | None, as_json: bool) -> None:
    """Show which models were trained on a file or prompt.

    Models that were made from those count too, and so do all versions of a file. What is not the name of anything is
    read as a prompt's text or digest, or as the digest of an image.
    """
    from infra.lineage.prompts import models_that_saw_prompt
    from infra.lineage.queries import find_all, is_known, models_that_saw

    with _synced(store, url) as (index, opened):
        if is_known(index, name):
            models = models_that_saw(index, find_all(index, name))
            if as_json:
                _print_json({"name": name, "models": [asdict(model) for model in models]})
            else:
                _show_models(f"saw {name}", models)
            return
        seen = models_that_saw_prompt(index, opened, name)
        if as_json:
            _print_json({"name": name, **asdict(seen)})
        else:
            _show_prompt(name, seen)


@lineage.command()
@click.argument("before", metavar="MODEL")
@click.argument("after", metavar="MODEL")
@store_option
@index_option
@json_option
def diff(before: str, after: str, store: str, url: str | None, as_json: bool) -> None:
    """Show how the histories of two models differ.

    Stage by stage: settings, code, data, packages and results.
    """
    from infra.lineage.histories import differences

    with _synced(store, url) as (index, _):
        stages = differences(index, before, after)
        if as_json:
            _print_json({"before": before, "after": after, "stages": [asdict(each) for each in stages]})
            return
        table = _table(f"{before} → {after}", ("stage", "what", "name", before, after))
        for stage in stages:
            if stage.same:
                table.add_row(_text(stage.stage), "", Text("the same execution", style="dim"))
            elif stage.before is None or stage.after is None:
                table.add_row(_text(stage.stage), "", "", *(_text(run or "–") for run in (stage.before, stage.after)))
            elif not stage.changes:
                table.add_row(_text(stage.stage), "", Text("ran again with no difference", style="dim"))
            for place, change in enumerate(stage.changes):
                values = (_text(_value(change.before)), _text(_value(change.after)))
                table.add_row(_text(stage.stage if place == 0 else ""), change.what, _text(change.name), *values)
        Console().print(table)


@lineage.command()
@click.argument("name", metavar="FILE")
@click.option("--run", "run_name", help="The run to look at (default: the newest that uses FILE).")
@store_option
@index_option
@json_option
def rerun(name: str, run_name: str | None, store: str, url: str | None, as_json: bool) -> None:
    """Show what would rerun if FILE changed, and for how long."""
    from infra.lineage.queries import reruns

    with _synced(store, url) as (index, _):
        result = reruns(index, name, run_name)
        if as_json:
            _print_json(asdict(result) | {"seconds": result.seconds})
            return
        table = _table(f"if {name} changed, of run {result.run}", ("stage", "because of", "took"))
        for stage in result.stages:
            table.add_row(_text(stage.stage), _text(", ".join(stage.because)), format_duration(stage.seconds))
        console = Console()
        console.print(table)
        reused = f"; reused: {', '.join(result.reused)}" if result.reused else ""
        console.print(
            _text(f"{len(result.stages)} stages would rerun, about {format_duration(result.seconds)}{reused}")
        )


@lineage.command("index")
@click.option("--rebuild", is_flag=True, help="Rebuild it from all records.")
@store_option
@index_option
@json_option
def index_command(rebuild: bool, store: str, url: str | None, as_json: bool) -> None:
    """Update the index from the store's records.

    Every other command of this group does so first.
    """
    from infra.lineage.tables import address_of

    with synced_index(open_store(store), url, rebuild) as (index, synced):
        address = address_of(index.engine)
    if as_json:
        _print_json(asdict(synced) | {"index": address})
        return
    rate = f", {synced.new / synced.seconds:.0f} a second" if synced.new else ""
    click.echo(f"{synced.new} records added, {synced.total} in all, in {synced.seconds:.2f} s{rate}")
    click.echo(f"index: {address}")


@lineage.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["openlineage", "mermaid", "json"]),
    required=True,
    help="OpenLineage events, one a line; a Mermaid diagram; or nodes and edges as JSON.",
)
@click.option("--run", "run_name", help="One run, with what its stages read and made.")
@click.option("--upstream-of", "upstream_of", metavar="NAME", help="Everything that NAME was made from.")
@click.option("--downstream-of", "downstream_of", metavar="NAME", help="Everything that was made from NAME.")
@click.option("--out", type=click.Path(dir_okay=False), help="File to write (default: standard output).")
@store_option
@index_option
def export(
    form: str,
    run_name: str | None,
    upstream_of: str | None,
    downstream_of: str | None,
    out: str | None,
    store: str,
    url: str | None,
) -> None:
    """Export the lineage, or a part of it."""
    from pathlib import Path

    from infra.files import write_text_atomically

    if sum(each is not None for each in (run_name, upstream_of, downstream_of)) > 1:
        fail("--run, --upstream-of and --downstream-of exclude each other: give one of them, or none for everything")
    with _synced(store, url) as (index, _):
        text = _exported(index, form, _chosen(index, run_name, upstream_of, downstream_of))
    if out is None:
        sys.stdout.write(text)
        return
    write_text_atomically(Path(out), text)


def _chosen(
    index: "LineageIndex", run_name: str | None, upstream_of: str | None, downstream_of: str | None
) -> "Subgraph":
    from infra.lineage.export.selection import of_run, whole

    if run_name is not None:
        return of_run(index, run_name)
    if upstream_of is not None:
        return index.upstream(index.find(upstream_of).id)
    if downstream_of is not None:
        return index.downstream(index.find(downstream_of).id)
    return whole(index)


def _exported(index: "LineageIndex", form: str, graph: "Subgraph") -> str:
    from infra.lineage.export.selection import as_data

    if form == "json":
        return json.dumps(as_data(graph), indent=1) + "\n"
    if form == "mermaid":
        from infra.lineage.export.mermaid import mermaid

        return mermaid(graph)
    from infra.lineage.export.openlineage import events

    return "".join(json.dumps(event) + "\n" for event in events(index, graph))


def _show_graph(graph: "Subgraph", direction: str, as_json: bool) -> None:
    """A tree from the first node; a node that is in it already is not expanded again. Evaluations are part of their
    model's line; as JSON they are nodes."""
    from infra.lineage.export.selection import as_data
    from infra.lineage.graph import fold

    if as_json:
        _print_json(as_data(graph))
        return
    graph = fold(graph)
    nodes = {node.id: node for node in graph.nodes}
    following: dict[str, list[tuple[str, str]]] = {}
    for edge in graph.edges:
        at, to = (edge.target, edge.source) if direction == "upstream" else (edge.source, edge.target)
        following.setdefault(at, []).append((edge.role, to))

    def label(id: str) -> Text:
        node = nodes[id]
        details = [node.facts.get("run") if node.kind == "execution" else str(node.facts.get("digest") or "")[:12]]
        if node.facts.get("status") == "failed" or node.facts.get("passed") is False:
            details.append("failed")
        if node.kind == "artifact" and node.facts.get("accuracy") is not None:
            details.append(f"accuracy {node.facts['accuracy']:.1%}")
        rest = "  ".join(part for part in details if part)
        return Text.assemble((f"{node.kind} ", "dim"), printable(node.label), (printable(f"  {rest}".rstrip()), "dim"))

    root = Tree(label(graph.nodes[0].id))
    opened = {graph.nodes[0].id}
    waiting = [(graph.nodes[0].id, root)]
    while waiting:
        id, branch = waiting.pop(0)
        for _role, to in following.get(id, []):
            if to in opened:
                branch.add(Text.assemble(label(to), ("  (above)", "dim")) if following.get(to) else label(to))
                continue
            opened.add(to)
            waiting.append((to, branch.add(label(to))))
    console = Console()
    console.print(root)
    left_out = f"; at least {graph.cut} more are left out: give --depth or --json" if graph.cut else ""
    console.print(f"{len(graph.nodes) - 1} nodes {direction}{left_out}", highlight=False)


def _show_models(title: str, models: "list[ModelRow]") -> None:
    table = _table(title, ("model", "stage", "run", "accuracy", "tags"))
    for model in models:
        accuracy = format_percent(model.accuracy)
        where = (_text(model.stage or "–"), _text(model.run or "–"))
        table.add_row(model.digest[:12], *where, accuracy, _text(", ".join(model.tags)))
    console = Console()
    if models:
        console.print(table)
    else:
        console.print(_text(f"no model {title}"), highlight=False)


def _show_prompt(name: str, seen: "PromptUses") -> None:
    for problem in seen.problems:
        warn(f"skipped: {problem.splitlines()[0]}")
    if not seen.uses:
        fail(
            f"nothing in the lineage is called {name!r}, and no stage has sampled it as a prompt "
            f"(digest {seen.digest[:12]})"
        )
    table = _table(f"the prompt {seen.digest[:12]}", ("samples", "stage", "responses", "trained", "mean reward"))
    for use in seen.uses:
        stages = ", ".join(f"{node.facts['run']}:{node.facts['stage']}" for node in use.executions)
        reward = "–" if use.mean_reward is None else f"{use.mean_reward:.3f}"
        table.add_row(use.samples[:12], _text(stages), str(use.responses), str(use.times_trained), reward)
    Console().print(table)
    _show_models("was trained on it", list(seen.trained))
    _show_models("came from these", list(seen.descendants))


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=_text(title), box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in columns:
        table.add_column(_text(column), overflow="fold")
    return table


def _text(text: str) -> Text:
    """Text of any origin, without rich's markup and without control characters."""
    return Text(printable(text).replace("\n", " "))


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text[:12]}…" if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data))
