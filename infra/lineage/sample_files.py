"""The samples of a stage: one row for each response that it trained on, or sampled to train on, in Parquet files.

The schema is the same for all stages; what a stage does not know is null. Files hold no time and no machine: the same
rows make the same bytes. Queries are in a module of their own, `infra.lineage.samples`, so that a change there leaves
the keys of the stages that write as they are.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.files import sync_folder
from infra.lineage.sample_row import SampleRow

_SPANS = pa.list_(pa.struct([("iteration", pa.int32()), ("tokens", pa.int32())]))
FORMAT = 2
"""The newest format of these files that this version reads, and the one that it writes. Format 1 called the column
times_trained `passes`."""

FORMAT_KEY = b"longhaul_samples"
"""The entry of a file's metadata that has its format."""

SCHEMA = pa.schema(
    [
        ("number", pa.int32()),
        ("problem_id", pa.string()),
        ("prompt_digest", pa.string()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("tokens", pa.int32()),
        ("role", pa.string()),
        ("outcome", pa.string()),
        ("times_trained", pa.int32()),
        ("iteration", pa.int32()),
        ("started", pa.int32()),
        ("policies", _SPANS),
        ("seed", pa.int64()),
        ("stop", pa.string()),
        ("reward", pa.float64()),
        ("reward_reason", pa.string()),
        ("verifier", pa.string()),
        ("total_reward", pa.float64()),
        ("advantage", pa.float64()),
        ("pair", pa.int32()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("images", pa.list_(pa.string())),
    ],
    metadata={FORMAT_KEY: str(FORMAT)},
)
"""The columns: a row's place in its file, from 0, and then SampleRow's fields. Files of this format that are older than
`images` are read with nulls there."""

SCHEMA_1 = pa.schema(
    [field.with_name("passes") if field.name == "times_trained" else field for field in SCHEMA],
    metadata={FORMAT_KEY: b"1"},
)
"""The columns of format 1."""

ROW_GROUP = 1024
"""Rows that are written, and later read, together. Of long responses that is some 100 MB."""

_NOT_UTF8 = re.compile("[\ud800-\udfff]")


def write_samples(path: Path, rows: Iterable[SampleRow]) -> int:
    """Write a file of samples, which appears whole or not at all, and replaces one that is there. Returns its rows.

    `rows` may be a generator: no more than ROW_GROUP of them are in memory at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    written, remaining = 0, iter(rows)
    try:
        with os.fdopen(descriptor, "wb") as file:
            options = {"compression": "zstd", "bloom_filter_options": {"prompt_digest": {"ndv": ROW_GROUP}}}
            with pq.ParquetWriter(file, SCHEMA, **options) as writer:
                while group := list(islice(remaining, ROW_GROUP)):
                    writer.write_table(_table(group, written))
                    written += len(group)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return written


def _table(rows: Sequence[SampleRow], first: int) -> pa.Table:
    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return value if value.isascii() else _NOT_UTF8.sub("\ufffd", value)
        if isinstance(value, Sequence):
            return [one if isinstance(one, str) else asdict(one) for one in value]
        return value

    columns: dict[str, Any] = {"number": range(first, first + len(rows))}
    columns |= {field.name: [plain(getattr(row, field.name)) for row in rows] for field in fields(SampleRow)}
    return pa.Table.from_pydict(columns, schema=SCHEMA)
