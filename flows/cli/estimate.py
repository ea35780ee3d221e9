"""`longhaul plan --estimate`: what a recipe would take on a machine, rendered; or why it cannot run there."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table

from flows.cli.terminal import fail, format_duration, format_size
from infra.estimate.devices import DEVICES, GIB, PRICES_AS_OF

if TYPE_CHECKING:
    from steps.estimate import Estimate
    from steps.recipe import Recipe

OPTIONS = (
    click.option("--estimate", is_flag=True, help="Estimate memory, tokens, hours and cost instead of planning."),
    click.option(
        "--gpu", type=click.Choice(DEVICES), help="With --estimate: the device (default: h100; cpu for the nano world)."
    ),
    click.option(
        "--gpus", type=click.IntRange(1), help="With --estimate: how many GPUs (default: as the recipe needs)."
    ),
    click.option("--price", type=click.FloatRange(0), help="With --estimate: US dollars an hour for each GPU."),
    click.option(
        "--assume", multiple=True, metavar="FIGURE=VALUE", help="With --estimate: as in --assume sft_examples=1000000."
    ),
)
"""The options of `longhaul plan` for estimates."""


def make_estimate(
    recipe: "Recipe", gpu: str | None, gpus: int | None, price: float | None, assume: Sequence[str]
) -> "Estimate":
    """The estimate that the options ask for; ends with a message where they cannot be followed."""
    from steps.estimate import estimate

    figures: dict[str, float] = {}
    for text in assume:
        name, mark, value = text.partition("=")
        try:
            figures[name] = float(value)
        except ValueError:
            mark = ""
        if not mark:
            fail(f"--assume {text}: expected FIGURE=NUMBER, as in sft_examples=1000000")
    # The shipped base is for CPUs, and everything that is named on the hub for GPUs.
    chosen = gpu or ("cpu" if recipe.data.nano_world is not None else "h100")
    if chosen == "cpu" and (gpus is not None or price is not None):
        fail(
            "--gpus and --price are for GPUs, and this estimate is for this machine's CPU: add --gpu, as in --gpu h100"
        )
    try:
        return estimate(recipe, chosen, gpus, price, figures)
    except (ValueError, OSError) as error:
        fail(str(error))


def print_estimate(estimate: "Estimate", as_json: bool = False) -> None:
    """Print an estimate. Ends with status 1 where the recipe cannot run on the machine, after saying why."""
    if as_json:
        click.echo(json.dumps(estimate.plain()))
    else:
        console = Console()
        for table in (_stages(estimate), _memory(estimate), _figures(estimate)):
            console.print(table)
    sys.stdout.flush()
    for problem in estimate.problems:
        click.secho(f"cannot run: {problem}", fg="red", err=True)
    if not estimate.fits:
        sys.exit(1)


def _table(title: str, caption: str, *columns: str) -> Table:
    table = Table(title=title, caption=caption, box=box.SIMPLE, pad_edge=False)
    table.title_justify = table.caption_justify = "left"
    for number, column in enumerate(columns):
        prose = column == "parts"
        table.add_column(column, justify="left" if prose or not number else "right", no_wrap=not prose)
    return table


def _stages(estimate: "Estimate") -> Table:
    place, device = estimate.placement, estimate.device
    machine = "this machine" if device.is_cpu else f"{place.gpus} × {device.name}"
    if place.nodes > 1:
        machine += f" in {place.nodes} nodes"
    title = f"{estimate.recipe}: {estimate.model.parameters / 1e6:,.1f}M parameters on {machine}; {place.described}"
    cost = f"{estimate.cost:,.0f}" if estimate.cost >= 100 else f"{estimate.cost:,.2f}"
    priced = f"about {cost} USD at {estimate.price:.2f} USD an hour each: an estimate"
    listed = f", with list prices of {PRICES_AS_OF}" if estimate.price == device.price else ""
    total = (
        f"{format_duration(estimate.seconds)}, {'an estimate' if device.is_cpu else priced + listed}.\n"
        "out: tokens generated; in: tokens trained on; generate, train: of the time; busy: the engine's sequences and "
        "the trainer's ranks"
    )
    if estimate.retained:
        weights = format_size(round(estimate.retained_size))
        total += f"\nkept in the store to fork from: {estimate.retained} iterations, {weights}"
    unit, size = ("h", 3600) if estimate.seconds > 36_000 else ("min", 60) if estimate.seconds > 600 else ("s", 1)
    table = _table(title, total, "stage", "out", "in", unit, "generate", "train", "busy")
    for one in estimate.stages:
        busy = [f"{share:.0%}" if share is not None else "–" for share in (one.occupancy, one.ranks_busy)]
        took = [f"{value / size:,.1f}" for value in (one.seconds, one.generating, one.training)]
        table.add_row(one.stage, _count(one.generated), _count(one.trained), *took, "/".join(busy))
    return table


def _memory(estimate: "Estimate") -> Table:
    held = estimate.largest
    per = "machine" if estimate.device.is_cpu else "GPU"
    caption = (
        f"largest rows: {held.key}, {held.length:,} tokens; KV cache for {estimate.engine.capacity:,} tokens, "
        f"{estimate.at_once} sequences at once in RL"
    )
    title = f"memory of a {per}, in GiB, of {estimate.device.memory / GIB:.1f}"
    table = _table(title, caption, "phase", "total", "parts")
    for phase in estimate.phases:
        parts = sorted(phase.parts.items(), key=lambda part: -part[1])
        listed = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts if size >= 0.05 * GIB)
        table.add_row(phase.name, f"{phase.total / GIB:.1f}", listed)
    return table


def _figures(estimate: "Estimate") -> Table:
    table = _table("taken from the data, or assumed", "", "figure", "value", "from")
    for name, source in estimate.figures.sources.items():
        table.add_row(name, f"{getattr(estimate.figures.values, name):,.6g}", source)
    return table


def _count(tokens: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if tokens >= size:
            return f"{tokens / size:.1f}{unit}"
    return f"{tokens:.0f}"
