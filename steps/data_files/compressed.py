"""Lines of a file that may be compressed, within limits: a small file can decompress to more than any disk holds."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from steps.problem import MalformedRow

LONGEST_LINE = 64 << 20
"""Bytes of one row."""
EXPANDS = 200
"""Times that a compressed file may grow: JSON with much repetition grows 30 times."""
SMALL = 256 << 20
"""Bytes up to which a file may grow by any factor."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def read_lines(path: Path, name: str) -> Iterator[tuple[int, bytes]]:
    """Line numbers, from 1, and lines of a file that is plain, gzip or Zstandard.

    Args:
        name: what messages call the file; its ending counts where its first bytes say nothing.

    Raises MalformedRow where the compression is damaged or cut off, and for what passes the limits.
    """
    number = size = 0
    with path.open("rb") as file:
        start = file.read(4)
    gzipped = start.startswith(_GZIP) or name.endswith(".gz")
    zstandard = start.startswith(_ZSTD) or name.endswith(".zst")
    most = max(SMALL, EXPANDS * path.stat().st_size) if gzipped or zstandard else None
    with _open(path, gzipped, zstandard) as stream:
        try:
            while line := stream.readline(LONGEST_LINE + 1):
                number, size = number + 1, size + len(line)
                if len(line) > LONGEST_LINE:
                    raise MalformedRow(
                        f"{name}:{number}: longer than {LONGEST_LINE >> 20} MiB: write one row on each line"
                    )
                if most is not None and size > most:
                    raise MalformedRow(
                        f"{name}: decompresses to more than {EXPANDS} times its size, as no data set does; if it is "
                        "what you want to read, decompress it first"
                    )
                yield number, line
        except (gzip.BadGzipFile, EOFError, zlib.error, OSError) as error:
            raise MalformedRow(
                f"{name}: cannot be decompressed after line {number} ({error}); copy or download the file again"
            ) from error


def _open(path: Path, gzipped: bool, zstandard: bool) -> io.BufferedIOBase:
    if gzipped:
        return gzip.open(path)
    if zstandard:
        import pyarrow  # takes a while

        return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.OSFile(os.fspath(path)), "zstd"), 1 << 20)
    return path.open("rb")
