"""Rows of one file of a data set, whatever kind it is."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steps.data_files.compressed import LONGEST_LINE, read_lines
from steps.problem import MalformedRow, parse_row

NOT_READ = (".csv", ".tsv", ".arrow", ".xlsx", ".zip", ".tar", ".tgz", ".tar.gz", ".bz2", ".xz", ".7z", ".txt", ".py")
"""Endings of files that are not read."""

NumberedRow = tuple[int, dict[str, Any] | MalformedRow]
"""A row's number in its file, from 1 (of lines, empty ones among them), and the row, or why it is none."""


def read_file(path: Path, name: str) -> Iterator[NumberedRow]:
    """Rows of a Parquet file, of JSON lines or of a JSON list (.json); JSON may be compressed by gzip or Zstandard.

    Args:
        name: what messages call the file, an address. Its ending says that it is a JSON list, or compressed.

    Raises MalformedRow for a file that cannot be read to its end.
    """
    if name.endswith(NOT_READ):
        raise MalformedRow(f"{name}: not a kind of file that is read: convert it to JSON lines (.jsonl) or Parquet")
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"PAR1") or name.endswith(".parquet"):
        from steps.data_files.parquet import read_parquet  # pyarrow takes a while to import

        yield from read_parquet(path, name)
    elif name.endswith(".json") and start.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
        yield from _read_list(path, name)
    else:
        for number, line in read_lines(path, name):
            if line.strip():
                yield number, _parsed(line, f"{name}:{number}")


def _parsed(line: bytes, place: str) -> dict[str, Any] | MalformedRow:
    try:
        return parse_row(line, place)
    except MalformedRow as error:
        return error


def _read_list(path: Path, name: str) -> Iterator[NumberedRow]:
    most = 16 * LONGEST_LINE
    if path.stat().st_size > most:
        raise MalformedRow(f"{name}: a JSON list of more than {most >> 30} GiB: write one row on each line (.jsonl)")
    try:
        rows = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise MalformedRow(f"{name}: not JSON ({error})") from error
    for number, row in enumerate(rows, 1):
        yield number, _parsed(json.dumps(row).encode(), f"{name}:{number}")
