"""Rows of a Parquet file, a few at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from steps.data_files.compressed import EXPANDS, LONGEST_LINE, SMALL
from steps.problem import MalformedRow

AT_ONCE = 256
"""Rows that are in memory."""


def read_parquet(path: Path, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbers, from 1, and rows, with the values that Python has for the columns' types.

    Raises MalformedRow for a file that is damaged, cut off or suspiciously large inside, for a row that is too long,
    and for values that Python does not have.
    """
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            largest = max((file.metadata.row_group(group).total_byte_size for group in groups), default=0)
            if largest > max(SMALL, EXPANDS * path.stat().st_size):
                raise MalformedRow(
                    f"{name}: a row group decompresses to {largest >> 20:,} MiB, more than {EXPANDS} times the file, "
                    "as no data set does: write the file again with smaller row groups"
                )
            for batch in file.iter_batches(AT_ONCE):
                _check_size(batch, name, number)
                for row in _values(batch, name, number):
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        raise MalformedRow(
            f"{name}: cannot be read as Parquet after row {number} ({_reason(error)}); copy or download the file again"
        ) from error


def _check_size(batch: pyarrow.RecordBatch, name: str, before: int) -> None:
    """Raise MalformedRow for a row that is longer than one may be, before it is a Python object."""
    if batch.nbytes <= LONGEST_LINE:
        return
    for row in range(batch.num_rows):
        if batch.slice(row, 1).nbytes > LONGEST_LINE:
            raise MalformedRow(f"{name}:{before + row + 1}: longer than {LONGEST_LINE >> 20} MiB: leave the row out")


def _values(batch: pyarrow.RecordBatch, name: str, before: int) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (ValueError, OverflowError, KeyError) as error:  # a time out of Python's range, a zone that is not here
        raise MalformedRow(
            f"{name}: a value after row {before} is none that Python has ({_reason(error)}): write the file again "
            "without that column"
        ) from error
    return rows


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
