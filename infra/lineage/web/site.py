"""What the pages are made from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from infra.lineage.index import LineageIndex
from infra.lineage.web.live import Live
from infra.store.record_log import NAME
from infra.store.store import Corrupted, FileEntry, Store, object_prefix

LARGEST_SHOWN = 2 << 20
"""Bytes of the largest file that a page shows."""


class NotThere(LookupError):
    """What was asked for is not there; the message says so to people."""


@dataclass(frozen=True)
class Site:
    """A store, its index, and this machine's folder of runs."""

    store: Store
    index: LineageIndex
    home: Path
    live: Live

    @classmethod
    def of(cls, store: Store, index: LineageIndex, home: Path) -> "Site":
        return cls(store, index, home, Live(home))

    def file(self, digest: str, path: str) -> tuple[FileEntry, bytes]:
        """A file of a stored folder, with its bytes as they were put.

        The path is compared with those of the manifest, and never used unless it is one of them. Raises NotThere where
        it is none or has more than LARGEST_SHOWN bytes, StoreError where the folder is not stored here or is damaged.
        """
        entry = next((entry for entry in self.store.manifest(digest).files if entry.path == path), None)
        if entry is None:
            raise NotThere("The artifact has no such file.")
        if entry.size > LARGEST_SHOWN:
            raise NotThere(f"The file has {entry.size:,} bytes; up to {LARGEST_SHOWN:,} are shown.")
        content = self.store.backend.read(f"{object_prefix(digest)}/content/{entry.path}")
        if content is None or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise Corrupted(f"{digest}/{entry.path} is not what was put; `longhaul store verify` says more")
        return entry, content

    def report(self, run: str) -> Path | None:
        """A run's report on this machine, or None where it has none."""
        # The index has no other names; it is looked at again before it becomes a path.
        if not NAME.fullmatch(run):
            return None
        path = self.home / "runs" / run / "report.html"
        return path if path.is_file() and path.resolve().is_relative_to((self.home / "runs").resolve()) else None
