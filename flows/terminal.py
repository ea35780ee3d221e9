"""What commands say to a terminal."""

import sys
from typing import NoReturn

import click


def fail(message: str) -> NoReturn:
    """End with one clear message."""
    click.secho(message, fg="red", err=True)
    sys.exit(1)


def printable(text: str) -> str:
    """Model output without the control characters that could drive a terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)
