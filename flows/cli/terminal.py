"""What commands have in common: the options of many, and what they say to a terminal."""

import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

store_option = click.option(
    "--store", default=".longhaul/store", show_default=True, help="The recipe's store: a folder, or s3://bucket/prefix."
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
    """End with one clear message."""
    click.secho(message, fg="red", err=True)
    sys.exit(1)


def printable(text: str) -> str:
    """Model output without the control characters that could drive a terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)


def told_seconds(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
