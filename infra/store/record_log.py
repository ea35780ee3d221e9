"""The store's records: small JSON files, added under a name and never changed.

    records/<name>/<time>-<unique>.json

Invariant: within one name a record's time is later than that of every record that its writer could see, so that the
order of file names is the order of appending, also where a clock was set back.
"""

import json
import re
import time
import uuid
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from infra.store.backend import Backend, Corrupted, StoreError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=-]*")
TIME = re.compile(r"(\d{20})-[0-9a-f]+\.json")


class RecordLog:
    """Records below `records/` of a backend. Keys are paths below it, like 'stages/<key>/<time>-<unique>.json'."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def append(self, name: str, data: dict[str, Any]) -> None:
        """Add a record. Raises ValueError for a bad name, and for values that JSON does not have."""
        _check(name)
        text = json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False)
        times = [int(match[1]) for key in self.keys(name) if (match := TIME.fullmatch(PurePosixPath(key).name))]
        now = max([time.time_ns(), *(there + 1 for there in times)])
        self.backend.write_text(f"records/{name}/{now:020d}-{uuid.uuid4().hex}.json", text)

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
        is not a JSON object."""
        for key in keys:
            _check(key)
        texts = self.backend.read_many([f"records/{key}" for key in keys])
        return [self._parsed(key, text) for key, text in zip(keys, texts, strict=True)]

    def _parsed(self, key: str, text: bytes | None) -> dict[str, Any]:
        where = f"{self.backend.address}/records/{key}"
        if text is None:
            raise StoreError(f"{where} is missing: records are never deleted; copy it back from where the store was")
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Corrupted(f"{where} is not JSON ({error})") from error
        if not isinstance(record, dict):
            raise Corrupted(f"{where} is not a JSON object")
        return record


class NameRefused(StoreError, ValueError):
    """A name under which no record can be."""


def _check(name: str) -> None:
    if not all(NAME.fullmatch(part) for part in name.split("/")):
        raise NameRefused(
            f"record name {name!r}: parts between '/' are letters, digits and ._=-, and begin with none of .=-"
        )
