"""The digest of a file or folder outside the store, remembered for as long as its files look the same.

What is read again is what has another size, time of change or inode; a base model of many gigabytes is hashed once.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from infra.files import write_text_atomically


def digest_of_path(path: Path, cache: Path, belongs: Callable[[str], bool] = lambda path: True) -> str:
    """SHA-256 of a file's bytes; of a folder, of paths and bytes of those files that belong, by their paths below it.

    `cache` is a JSON file that remembers, if it can be read and written. Raises OSError where a file cannot be read.
    """
    known: dict[str, str] = {}
    with suppress(OSError, ValueError):  # it only saves time, so it may be missing or no JSON
        remembered = json.loads(cache.read_text(encoding="utf-8"))
        pairs = remembered.items() if isinstance(remembered, dict) else ()
        known = {seen: one for seen, one in pairs if isinstance(one, str)}
    new: dict[str, str] = {}
    digest = hashlib.sha256()
    inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else []
    files = [file for file in inside if belongs(file.relative_to(path).as_posix())] if path.is_dir() else [path]
    for file in files:
        status = file.stat()
        seen = f"{file.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        if seen not in known:
            with file.open("rb") as content:
                new[seen] = hashlib.file_digest(content, "sha256").hexdigest()
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + (known | new)[seen].encode())
    if new:
        with suppress(OSError):  # a full or read-only disk: it is read again next time
            write_text_atomically(cache, json.dumps(known | new))
    return digest.hexdigest()
