"""The store's records: small JSON files, added under a name and never changed.

    records/<name>/<time>-<SHA-256 of its text><random>.json

The SHA-256 in the name tells a record that was changed afterwards. Older records have none: their names end in 32
digits at random.

Invariant: within one name a record's time is later than that of every record that its writer could see, so that the
order of file names is the order of appending, also where a clock was set back.
"""

import hashlib
import json
import re
import secrets
import time
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from infra.store.backend import Backend, Corrupted, StoreError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=-]*")
FILE = re.compile(r"(\d{20})-([0-9a-f]+)\.json")
"""Name of a record's file: the time in nanoseconds since 1970, and what makes it unique."""
SHA256_DIGITS, RANDOM_DIGITS = 64, 8
WAY_OUT = "copy it back from a backup, or move it out of the store's records"


class RecordLog:
    """Records below `records/` of a backend. Keys are paths below it, like 'stages/<key>/<time>-<unique>.json'."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def append(self, name: str, data: dict[str, Any]) -> None:
        """Add a record. Raises ValueError for a bad name, and for values that JSON does not have."""
        _check(name)
        text = json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False)
        times = [int(match[1]) for key in self.keys(name) if (match := FILE.fullmatch(PurePosixPath(key).name))]
        now = max([time.time_ns(), *(there + 1 for there in times)])
        unique = hashlib.sha256(text.encode()).hexdigest() + secrets.token_hex(RANDOM_DIGITS // 2)
        self.backend.write_text(f"records/{name}/{now:020d}-{unique}.json", text)

    def keys(self, prefix: str = "") -> list[str]:
        """Keys of the records at or below a name (of all without one), oldest first."""
        if prefix:
            _check(prefix)
        below = f"{prefix}/".lstrip("/")
        # Part of the folder may be a record that is being written aside: its name begins with a dot.
        names = [(n.rpartition("/")[2], below + n) for n in self.backend.sizes(f"records/{prefix}".rstrip("/"))]
        return [key for name, key in sorted(names) if not name.startswith(".")]

    def read(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """The records of these keys, in their order. Raises StoreError for one that is missing, Corrupted for one that
        is not a JSON object or was changed after it was written."""
        for key in keys:
            _check(key)
        texts = self.backend.read_many([f"records/{key}" for key in keys])
        return [self._read_twice(key, text) for key, text in zip(keys, texts, strict=True)]

    def read_valid(self, keys: Sequence[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """By key, the records that can be read, in the keys' order, and why the others cannot."""
        valid: dict[str, dict[str, Any]] = {}
        problems: dict[str, str] = {}
        proper = []
        for key in keys:
            try:
                _check(key)
                proper.append(key)
            except NameRefused as error:
                problems[key] = f"{self.backend.address}/records/{key} is not a record: {error}"
        texts = self.backend.read_many([f"records/{key}" for key in proper])
        for key, text in zip(proper, texts, strict=True):
            try:
                valid[key] = self._read_twice(key, text)
            except StoreError as error:
                problems[key] = str(error)
        return valid, problems

    def _read_twice(self, key: str, text: bytes | None) -> dict[str, Any]:
        """A record from its text, read again if that is damaged: on the way, perhaps, and then it is not so again."""
        try:
            return self._parsed(key, text)
        except Corrupted:
            return self._parsed(key, self.backend.read(f"records/{key}"))

    def _parsed(self, key: str, text: bytes | None) -> dict[str, Any]:
        where = f"{self.backend.address}/records/{key}"
        if text is None:
            raise StoreError(f"{where} is missing: records are never deleted; copy it back from where the store was")
        expected = _sha256_in_name(key)
        if expected is not None and hashlib.sha256(text).hexdigest() != expected:
            raise Corrupted(f"{where} is not what was written: its SHA-256 is not the one in its name; {WAY_OUT}")
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Corrupted(f"{where} is not JSON ({error}); {WAY_OUT}") from error
        if not isinstance(record, dict):
            raise Corrupted(f"{where} is not a JSON object; {WAY_OUT}")
        return record


class NameRefused(StoreError, ValueError):
    """A name under which no record can be."""


def is_record_file(key: str) -> bool:
    """Whether a key's file has a name that this log gives; anything else lies among the records by mistake."""
    return FILE.fullmatch(PurePosixPath(key).name) is not None


def _sha256_in_name(key: str) -> str | None:
    match = FILE.fullmatch(PurePosixPath(key).name)
    return match[2][:SHA256_DIGITS] if match and len(match[2]) == SHA256_DIGITS + RANDOM_DIGITS else None


def _check(name: str) -> None:
    if not all(NAME.fullmatch(part) for part in name.split("/")):
        raise NameRefused(
            f"record name {name!r}: parts between '/' are letters, digits and ._=-, and begin with none of .=-"
        )
