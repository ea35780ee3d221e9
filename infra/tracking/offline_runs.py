"""What the tracker's offline runs hold: the rows that `wandb sync` would upload.

A run's file is a log in LevelDB's format after a header of 7 bytes: blocks of 32 KiB, cut into fragments, each with a
checksum, a length and a kind. The library writes it and only its upload reads it, so it is read here.
"""

import glob
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEADER, _BLOCK = 7, 32768
_FRAGMENT = struct.Struct("<IHB")
_WHOLE, _FIRST, _LAST = 1, 2, 4


def next_step(folder: Path, run_id: str) -> int:
    """The step after the last one that the offline runs of an id hold; 0 where there is none.

    `folder` is where the library keeps the folders of runs.
    """
    steps = [-1]
    for path in folder.glob(f"offline-run-*/run-{glob.escape(run_id)}.wandb"):
        steps += [each.history.step.num for each in records(path.read_bytes()) if each.HasField("history")]
    return max(steps) + 1


def records(data: bytes) -> Iterator[Any]:
    """The records (`wandb.proto.wandb_internal_pb2.Record`) of a run's file, up to where it was cut off."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    at, parts = _HEADER, b""
    while at + _FRAGMENT.size <= len(data):
        left = _BLOCK - at % _BLOCK
        _, length, kind = _FRAGMENT.unpack_from(data, at)
        if left < _FRAGMENT.size or kind == 0:  # the rest of a block is filled up
            at += left
            continue
        at += _FRAGMENT.size
        if at + length > len(data):
            return
        parts = (b"" if kind in (_WHOLE, _FIRST) else parts) + data[at : at + length]
        at += length
        if kind in (_WHOLE, _LAST):
            yield Record.FromString(parts)
