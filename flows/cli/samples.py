"""`longhaul lineage samples`: what a model was trained on, by iteration, by prompt, response by response, or in SQL."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.command import Command
from flows.cli.terminal import fail, json_option, printable, store_option
from flows.home import open_store

if TYPE_CHECKING:
    from infra.store.store import Ref, Store

Rows = Sequence[dict[str, Any]]

_OF_ITERATIONS = {
    "iteration": "iteration",
    "prompts": "prompts",
    "responses": "responses",
    "times_trained": "trained",
    "mean_reward": "reward",
    "mean_tokens": "tokens",
    "oldest_policy": "oldest policy",
    "outcomes": "outcomes",
}
_OF_PROMPTS = {
    "problem_id": "problem",
    "responses": "resp.",
    "times_trained": "trained",
    "iterations": "iter.",
    "mean_tokens": "tokens",
    "first_reward": "first reward",
    "last_reward": "last",
    "prompt": "prompt",
}


@click.command(cls=Command)
@click.argument("model")
@store_option
@click.option("--iteration", type=click.IntRange(0), help="Responses of this iteration of RL.")
@click.option("--prompt", metavar="TEXT", help="Responses to this prompt: its text, or its digest.")
@click.option("--outcome", help="Responses with this outcome: trained, no_signal, stale, failed, offered or left_out.")
@click.option("--prompts", "by_prompt", is_flag=True, help="One line for each prompt.")
@click.option("--order", metavar="COLUMN", help="Order of responses or prompts; -COLUMN puts the greatest first.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Rows to show at most.")
@click.option("--offset", default=0, type=click.IntRange(0), help="Rows to skip.")
@click.option("--sql", metavar="SELECT", help="One SELECT from `samples`; it can read nothing else.")
@json_option
def samples(
    model: str,
    store: str,
    iteration: int | None,
    prompt: str | None,
    outcome: str | None,
    by_prompt: bool,
    order: str | None,
    limit: int,
    offset: int,
    sql: str | None,
    as_json: bool,
) -> None:
    """Show the samples that MODEL was trained on.

    There is one line for each iteration, unless an option chooses another view.

    MODEL is a stage of the newest run, RUN:STAGE, a tag, or the beginning of a model's digest.

    \b
    longhaul lineage samples rl --iteration 12 --order=-reward
    longhaul lineage samples rl --sql "SELECT stop, count(*), avg(tokens) FROM samples GROUP BY stop"
    """
    from infra.lineage.samples import count_of, iterations_of, prompts_of, query, samples_of

    chosen = {"iteration": iteration, "prompt": prompt, "outcome": outcome}
    of_responses = any(value is not None for value in chosen.values())
    if sum((of_responses, by_prompt, sql is not None)) > 1:
        fail("choose one: --prompts, --sql, or responses by --iteration, --prompt and --outcome")
    if order is not None and not (of_responses or by_prompt):
        fail("--order is for responses and prompts: add --iteration, --prompt, --outcome or --prompts")
    total = None
    opened = open_store(store)
    ref = _samples_of(opened, model)
    if sql is not None:
        rows = query(opened, ref, sql, limit)
    elif by_prompt:
        rows = prompts_of(opened, ref, order or "problem_id", limit, offset)
    elif of_responses:
        rows = samples_of(opened, ref, iteration, outcome, prompt, order or "number", limit, offset)
        total = count_of(opened, ref, iteration, outcome, prompt)
    else:
        rows = iterations_of(opened, ref)
    if as_json:
        click.echo(json.dumps({"samples": ref.digest, "rows": rows}, default=str))
    elif of_responses:
        _show_responses(rows, offset, total or 0)
    else:
        columns = _OF_PROMPTS if by_prompt else {name: name for name in rows[0]} if sql and rows else _OF_ITERATIONS
        _show_table(rows, columns)


def _samples_of(store: "Store", name: str) -> "Ref":
    """The samples of a model, or of a stage that made others. Raises ModelNotFound where there are none."""
    from flows.models import ModelNotFound, find_model_record, run_records

    run, _, stage = name.rpartition(":")
    for record in run_records(store, run or None):
        if record.stage == stage and "samples" in record.outputs:
            return record.outputs["samples"]
    _, record = find_model_record(store, name)
    if "samples" not in record.outputs:
        inputs = ", ".join(f"{input} {ref.digest[:12]}" for input, ref in record.inputs.items())
        raise ModelNotFound(f"{record.stage} of run {record.run} left no samples; ask about what it read: {inputs}")
    return record.outputs["samples"]


def _show_table(rows: Rows, columns: dict[str, str]) -> None:
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for name, title in columns.items():
        right = any(isinstance(row[name], int | float) for row in rows)
        # Numbers stay whole; where there is no room, it is texts that wrap.
        least = max([*map(len, printable(title).split()), *(len(_cell(row[name])) for row in rows)]) if right else None
        justify: Literal["left", "right"] = "right" if right else "left"
        table.add_column(Text(printable(title)), justify=justify, overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*(Text(_cell(row[name])) for name in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict):
        return ", ".join(f"{printable(str(name))} {count}" for name, count in value.items())
    return printable(" ".join(str(value).split()))


def _show_responses(rows: Rows, offset: int, total: int) -> None:
    console = Console(highlight=False)
    for row in rows:
        parts = {
            "iteration": row["iteration"],
            "problem": row["problem_id"],
            "role": row["role"],
            "outcome": row["outcome"],
            "reward": row["reward"],
            "because": row["reward_reason"],
            "by": row["verifier"],
            "advantage": row["advantage"],
            "tokens": row["tokens"],
            "policies": ", ".join(f"{span['iteration']} ({span['tokens']} tokens)" for span in row["policies"] or ()),
            "stop": row["stop"],
        }
        heading = " · ".join(f"{name} {_cell(value)}" for name, value in parts.items() if value not in (None, ""))
        console.print(Text(heading, "bold"))
        console.print(Text(printable(row["prompt"]), "cyan"))
        console.print(Text(printable(row["response"])))
        console.print()
    last = offset + len(rows)
    position = f"{offset + 1} to {last} of {total}" if rows else f"none of {total}"
    console.print(f"{position}; --offset {last} shows the next" if rows and last < total else position)
