"""`longhaul stop`, `logs`, `note` and `failures`: what one does about a run while it runs and after it failed."""

import json

import click
from rich.console import Console
from rich.text import Text

from flows.cli.command import Command
from flows.cli.terminal import json_option, printable, store_option
from flows.home import open_store, synced_index


@click.command(cls=Command)
@click.argument("run")
def stop(run: str) -> None:
    """Stop RUN, as Ctrl-C in its terminal does. What it finished is kept."""
    from flows.stop import stop_run

    stop_run(run)
    click.echo(f"run {printable(run)} has ended: the same command resumes it")


@click.command(cls=Command)
@click.argument("name", metavar="RUN[:STAGE]")
@click.option("--lines", type=click.IntRange(1), help="Only so many lines, the last (default: all).")
@click.option("--follow", "-f", "following", is_flag=True, help="Print what is added, until the run ends.")
def logs(name: str, lines: int | None, following: bool) -> None:
    """Print the log of RUN's workflow, or what the engines of one of its stages printed.

    Logs are on the machine that the run was on.
    """
    from flows.logs import follow, last_lines, log_file

    run, _, stage = name.partition(":")
    file = log_file(run, stage or None)
    if following:
        for text in follow(file, run, lines):
            click.echo(printable(text), nl=False)
        return
    for line in last_lines(file, lines):
        click.echo(printable(line))


@click.command(cls=Command)
@click.argument("run")
@click.argument("text")
@store_option
def note(run: str, text: str, store: str) -> None:
    """Write TEXT down about RUN: `longhaul show` and `runs` show it."""
    from flows.notes import add_note

    opened = open_store(store)
    with synced_index(opened) as (index, _):
        index.run(run)  # refused where there is no such run
    add_note(opened, run, text)
    click.echo(f"noted on run {printable(run)}")


@click.command(cls=Command)
@click.argument("run", required=False)
@store_option
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1), help="Newest failed runs to show.")
@json_option
def failures(run: str | None, store: str, limit: int, as_json: bool) -> None:
    """Show what failed in the newest failed runs, or in RUN: the error, the log's end, and the command that reruns it.

    Where a later run passed with the same key, it says so: then nothing has to be done.
    """
    from flows.failures import failures as find_failures

    with synced_index(open_store(store)) as (index, _):
        matches = find_failures(index, run, limit)
    if as_json:
        click.echo(json.dumps({"failures": [each.plain() for each in matches]}))
        return
    console = Console()
    if not matches:
        console.print(Text("nothing failed"))
    for each in matches:
        place = f"{each.run}:{each.stage}" if each.stage else each.run
        head = Text.assemble((printable(place), "bold"), f"  {printable(each.time)}  ")
        if each.passed_in:
            head.append(printable(f"passed later in run {each.passed_in}"), "green")
        console.print(head, soft_wrap=True)
        console.print(Text(f"  {printable(each.error)}", "red"), soft_wrap=True)
        for line in each.lines:
            console.print(Text(f"  | {printable(line)}", "dim"), soft_wrap=True)
        if each.log:
            console.print(Text(f"  log: {printable(each.log)}"), soft_wrap=True)
        if each.command and not each.passed_in:
            console.print(Text(f"  to run it again: {printable(each.command)}"), soft_wrap=True)
