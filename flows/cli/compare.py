"""`longhaul compare`: many runs, grouped by everything but the seed, with intervals and paired differences."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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
    split_columns,
    where_option,
)
from flows.cli.terminal import fail, json_option, printable, store_option
from flows.home import open_store, synced_index

if TYPE_CHECKING:
    from infra.lineage.index import LineageIndex
    from infra.lineage.run_values import Group, GroupFigure, RunValues

PICTURES = (".svg", ".png", ".pdf")


@click.command(cls=Command)
@click.argument("names", metavar="[RUN]...", nargs=-1)
@store_option
@columns_option("accuracy and length of each evaluated model")
@where_option
@click.option(
    "--sort", "order", metavar="COLUMN", help="Order groups by the mean of a column; with a minus, greatest first."
)
@click.option(
    "--figure",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw curves of all runs over one another: a file that ends in .svg, .png or .pdf.",
)
@click.option(
    "--curve",
    "curves",
    multiple=True,
    metavar="STAGE:METRIC",
    help="What --figure draws, as in rl:accuracy; may be repeated (default: the main curves of RL).",
)
@json_option
@csv_option
def compare(
    names: tuple[str, ...],
    store: str,
    columns: str | None,
    conditions: tuple[str, ...],
    order: str | None,
    figure: Path | None,
    curves: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
) -> None:
    """Compare runs with their seeds grouped: mean, 95 % interval, and the difference from the first group.

    Runs are one group if they differ in nothing but the seed: the same settings, code, data and packages. Differences
    are paired: over the seeds that both groups have. Without RUN, all runs that meet --where are compared.
    """
    one_form(as_json, as_csv)
    if not names and not conditions:
        fail("name the runs to compare, or choose them with --where, as in --where recipe=nano")
    if figure is not None and figure.suffix not in PICTURES:
        fail(f"--figure {figure}: expected a file that ends in {', '.join(PICTURES)}")
    if curves and figure is None:
        fail("--curve says what --figure draws: add --figure FILE")
    with synced_index(open_store(store)) as (index, _):
        runs = _chosen(index, names, conditions)
        print_comparison(runs, split_columns(columns), order, as_json, as_csv)
        if figure is not None:
            from flows.cli.compare_figure import draw
            from infra.lineage.run_values import groups_of

            draw(figure, groups_of(runs), curves)
            if not as_json and not as_csv:
                click.echo(f"curves: {figure}")


def _chosen(index: "LineageIndex", names: tuple[str, ...], conditions: tuple[str, ...]) -> "list[RunValues]":
    """The named runs in the order of their names, or all; of these, those that meet the conditions."""
    from infra.lineage.run_values import RunValues

    for name in names:
        index.run(name)  # an unknown one is refused with the newest that there is
    rows = {row.run: row for row, _ in reversed(choose_runs(index, "", conditions, None).rows)}
    runs = [RunValues(rows[name], partial(index.run, name)) for name in dict.fromkeys(names or rows) if name in rows]
    if not runs:
        fail(f"no run meets {' and '.join(conditions)}: `longhaul runs` lists runs")
    return runs


def print_comparison(
    runs: "list[RunValues]", columns: list[str], order: str | None, as_json: bool, as_csv: bool
) -> None:
    """Print the table. Raises LineageError for a column that no run has."""
    from infra.lineage.run_values import (
        check_columns,
        common_figures,
        comparison,
        group_figures,
        groups_of,
        is_number,
    )

    check_columns([*columns, *([order.removeprefix("-")] if order else [])], runs)
    groups = groups_of(runs)
    base = groups[0].label if groups else ""
    keys = [name for name in columns if not any(is_number(run.value(name)) for run in runs) or name in runs[0].config]
    figures = [name for name in columns if name not in keys] or common_figures(runs)
    rows = group_figures(groups, figures)
    if order:
        places = _places(groups, order)
        rows.sort(key=lambda row: (figures.index(row.figure), places[row.group]))
        groups = sorted(groups, key=lambda group: places[group.label])
    if as_json:
        click.echo(json.dumps(comparison(groups, keys, rows, base)))
    elif as_csv:
        click.echo(_csv(groups, keys, rows), nl=False)
    else:
        _print(groups, keys, rows, base)


def _places(groups: "list[Group]", order: str) -> dict[str, int]:
    """The place of each group, by label."""
    from infra.lineage.statistics import mean_interval

    name = order.removeprefix("-")
    means = {group.label: mean_interval(list(group.by_seed(name).values())) for group in groups}
    sign = -1 if order.startswith("-") else 1
    if all(mean is None for mean in means.values()):
        values = {group.label: str(group.runs[0].value(name)) for group in groups}
        labels = sorted(values, key=lambda label: values[label], reverse=sign < 0)
    else:
        labels = sorted(means, key=lambda label: sign * mean.mean if (mean := means[label]) else float("inf"))
    return {label: place for place, label in enumerate(labels)}


def _csv(groups: "list[Group]", keys: list[str], rows: "list[GroupFigure]") -> str:
    from infra.lineage.csv_text import csv_text

    by_label = {group.label: group for group in groups}
    of_difference = ["difference", "difference_low", "difference_high", "paired_seeds"]
    lines = []
    for row in rows:
        values = [by_label[row.group].runs[0].value(key) for key in keys]
        means = [
            part for mean in (row.mean, row.difference) for part in (mean.plain().values() if mean else [None] * 4)
        ]
        lines.append([row.figure, row.group, *values, *means])
    return csv_text(["figure", "group", *keys, "mean", "low", "high", "seeds", *of_difference], lines)


def _print(groups: "list[Group]", keys: list[str], rows: "list[GroupFigure]", base: str) -> None:
    """Print the tables; `base` is the group that differences are from, wherever it stands."""
    console = Console()
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in ("group", "runs", "seeds", *keys):
        table.add_column(Text(printable(column)), overflow="fold")
    for group in groups:
        seeds = ", ".join(str(run.seed) for run in group.runs)
        values = (group.runs[0].value(key) for key in keys)
        cells = [group.label, ", ".join(run.run for run in group.runs), seeds]
        cells += [cell(key, value) for key, value in zip(keys, values, strict=True)]
        table.add_row(*(Text(printable(each)) for each in cells))
    console.print(table)
    several = len(groups) > 1
    caption = "95 % intervals over seeds" + (f"; differences from {base}, paired by seed" if several else "")
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True, caption=Text(printable(caption)))
    for column in ("figure", "group", "seeds", "mean", "interval", *(("difference", "interval") * several)):
        table.add_column(column, justify="left" if column in ("figure", "group") else "right", overflow="fold")
    for row in rows:
        cells = [row.figure, row.group, str(row.mean.count), *row.mean.words(row.figure)]
        if several:
            cells += row.difference.words(row.figure, "+") if row.difference else ["", ""]
        style = "bold" if row.difference and row.difference.excludes_zero else ""
        table.add_row(*(Text(printable(each), style) for each in cells))
    console.print(table)
