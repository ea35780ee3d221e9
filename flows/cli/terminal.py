"""The options that several commands have, and what commands print to a terminal."""

import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

from flows.home import HOME, LINEAGE_INDEX

store_option = click.option(
    "--store",
    default=str(HOME / "store"),
    show_default=True,
    help="The recipe's store: a folder, or s3://bucket/prefix.",
)
index_option = click.option(
    "--index",
    "url",
    metavar="URL",
    envvar=LINEAGE_INDEX,
    help="The lineage index: sqlite:///FILE or postgresql+psycopg://… (default: a file below the home).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
config_option = click.option(
    "--config", "config_path", default="configs/nano.yaml", show_default=True, help="The recipe's file."
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key of the recipe, as in --set rl.tau=0.2.",
)

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def promotion_rules(command: CommandT) -> CommandT:
    """Add the options of steps.promotion.PromotionRules."""
    growth = click.option(
        "--token-growth", type=click.FloatRange(0), help="How much longer responses may be, as in 0.1 for a tenth."
    )
    drop = click.option(
        "--accuracy-drop",
        default=0.0,
        type=click.FloatRange(0, 1),
        show_default=True,
        help="How far below the tagged one's accuracy may be.",
    )
    return drop(growth(command))


def fail(message: str) -> NoReturn:
    """End with one clear message, in which control characters are replaced: it may quote anything."""
    click.secho(printable(message), fg="red", err=True)
    sys.exit(1)


def warn(message: str) -> None:
    """Say on standard error what does not stop the command."""
    click.secho(printable(message), fg="yellow", err=True)


def printable(text: str) -> str:
    """Model output without the control characters that could drive a terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)


def format_duration(seconds: float) -> str:
    """A duration as people write it: 40 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def format_percent(share: float | None) -> str:
    """A share of 1 in per cent; a dash for none."""
    return "–" if share is None else f"{share:.1%}"


def format_size(size: int) -> str:
    """Bytes as people write them: 1.2 MB."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB"
