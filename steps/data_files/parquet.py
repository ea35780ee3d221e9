"""Rows of a Parquet file, a few at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from steps.data_files.compressed import EXPANDS, SMALL
from steps.problem import MalformedRow

AT_ONCE = 256
"""Rows that are in memory."""


def read_parquet(path: Path, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbers, from 1, and rows, with the values that Python has for the columns' types.

    Raises MalformedRow for a file that is damaged, cut off or suspiciously large inside.
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
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MalformedRow(
            f"{name}: cannot be read as Parquet after row {number} ({reason}); copy or download the file again"
        ) from error
