"""Tables of many runs with chosen columns: choosing runs, and the forms that tables are printed in."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flows.cli.terminal import fail, format_duration, printable

if TYPE_CHECKING:
    from infra.lineage.index import LineageIndex
    from infra.lineage.run_table import RunTable

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
where_option = click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Only runs that meet it, as in status=failed, rl.tau>=0.2 or rl:accuracy>0.5; several must all hold.",
)
sort_option = click.option(
    "--sort", "order", metavar="COLUMN", help="Order by a column; with a minus in front, greatest first."
)


def columns_option(default: str) -> Callable[[CommandT], CommandT]:
    """`--columns`, with what it is by default in words."""
    return click.option(
        "--columns",
        metavar="A,B,…",
        help="Fields of the run (status), keys of the recipe (rl.tau), figures of stages (rl:accuracy); "
        f"default: {default}.",
    )


def split_columns(text: str | None) -> list[str]:
    """The names in a list with commas."""
    return list(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))


def one_form(as_json: bool, as_csv: bool) -> None:
    """Refuse two forms at once."""
    if as_json and as_csv:
        fail("--json and --csv exclude each other: give one of them")


def choose_runs(
    index: "LineageIndex",
    text: str,
    conditions: Sequence[str],
    order: str | None,
    columns: Sequence[str] = (),
    limit: int | None = None,
) -> "RunTable":
    """Runs with a text in them that meet all conditions, newest first or in the requested order, with some columns.

    Raises LineageError for a condition that cannot be read, and for a column that no run has.
    """
    from infra.lineage.run_table import Condition, check_columns, run_table

    parsed = [Condition.parse(condition) for condition in conditions]
    if index.runs(limit=1).total:
        check_columns(
            index, [*columns, *(each.column for each in parsed), *([order.removeprefix("-")] if order else [])]
        )
    return run_table(index, columns, text, parsed, order or "-started", limit)


def cell(column: str, value: Any) -> str:
    """A value as people read it in a table."""
    if value is None:
        return "–"
    if column.rpartition(":")[2] == "seconds":
        return format_duration(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(value if isinstance(value, str) else str(value)).replace("\n", " ")
