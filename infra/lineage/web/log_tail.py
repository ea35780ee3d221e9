"""The last lines of a log that a record names, if it is one of this machine's runs."""

import os
from pathlib import Path

MAX_BYTES = 16 << 10
LINES = 30


def log_tail(home: Path, log: str | None) -> str | None:
    """The last LINES lines of a log below `home`; None where it is elsewhere, is gone or is not a file.

    The path comes from a record, and so from whoever can write into the store: nothing outside `home` is read.
    """
    if not log:
        return None
    try:
        path = Path(log).resolve()
        if not path.is_relative_to(home.resolve()) or path.suffix != ".log" or not path.is_file():
            return None
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_BYTES))
            lines = file.read(MAX_BYTES).decode(errors="replace").splitlines()
    except (OSError, ValueError, RuntimeError):  # ValueError: a NUL in the path; RuntimeError: links in a circle
        return None
    return "\n".join(lines[-LINES:])
