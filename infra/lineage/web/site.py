"""The store, index and progress that the pages show."""

from dataclasses import dataclass
from pathlib import Path

from infra.lineage.index import LineageIndex
from infra.lineage.web.host import Host
from infra.lineage.web.live import LiveProgress
from infra.store.record_log import NAME
from infra.store.store import FileEntry, Store
from infra.store.stored_file import read_stored_file

MAX_SHOWN_BYTES = 2 << 20
"""Bytes of the largest file that a page shows."""


class NotFound(LookupError):
    """There is no such thing; the message is for people."""


@dataclass(frozen=True)
class Site:
    """A store, its index, and this machine's folder of runs."""

    store: Store
    index: LineageIndex
    home: Path
    live: LiveProgress
    host: Host

    @classmethod
    def of(cls, store: Store, index: LineageIndex, home: Path, host: Host | None = None) -> "Site":
        return cls(store, index, home, LiveProgress(home), host or Host())

    def file(self, digest: str, path: str) -> tuple[FileEntry, bytes]:
        """A file of a stored folder, with its bytes as they were put.

        The path is compared with those of the manifest, and never used unless it is one of them. Raises NotFound where
        it is none or has more than MAX_SHOWN_BYTES bytes, StoreError where the folder is not stored here or is damaged.
        """
        entry = next((entry for entry in self.store.manifest(digest).files if entry.path == path), None)
        if entry is None:
            raise NotFound("The artifact has no such file.")
        if entry.size > MAX_SHOWN_BYTES:
            raise NotFound(f"The file has {entry.size:,} bytes; up to {MAX_SHOWN_BYTES:,} are shown.")
        return entry, read_stored_file(self.store, digest, entry)

    def report(self, run: str) -> Path | None:
        """A run's report on this machine, or None where it has none."""
        # The index has no other names; it is looked at again before it becomes a path.
        if not NAME.fullmatch(run):
            return None
        path = self.home / "runs" / run / "report.html"
        return path if path.is_file() and path.resolve().is_relative_to((self.home / "runs").resolve()) else None
