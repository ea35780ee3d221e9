"""Tables as comma-separated values, which people open in spreadsheets."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""Beginnings of a text that a spreadsheet would compute, also behind what it drops."""


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as comma-separated values (RFC 4180, but with line feeds alone); None is an empty cell.

    Names and settings are texts of others: one that begins like a formula has an apostrophe before it, which a
    spreadsheet takes for the sign of a text. Numbers are as they are.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (columns, *rows):
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # The writer quotes no carriage return, and readers end a row there.
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.startswith(_FORMULA) else text
