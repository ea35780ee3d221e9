"""What commands have in common: the options of many, and what they say to a terminal."""

import sys
from typing import NoReturn

import click

store_option = click.option(
    "--store", default=".longhaul/store", show_default=True, help="The recipe's store: a folder, or s3://bucket/prefix."
)


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
