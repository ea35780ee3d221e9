"""Opening the index of a store with the newest records in it, also where the index cannot be used.

The store's records hold all that an index does. So the index in its usual place is made again where it is damaged, and
where it cannot be opened or written (a full disk, a read-only one), a command makes one of its own. An index that was
named explicitly is left as it is: that may be somebody's other database.
"""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from infra.lineage.index import LineageIndex, index_file
from infra.lineage.rows import SyncResult
from infra.lineage.tables import IndexUnusable
from infra.store.store import Store

MEMORY = Path("/dev/shm")
"""Where a command's own index goes: the disk may be full."""


def open_synced(
    store: Store, home: Path, url: str | None, report: Callable[[str], None], rebuild: bool = False
) -> tuple[LineageIndex, SyncResult]:
    """The index of a store: at `url`, or else in its usual file, which is made again where it cannot be used.

    Args:
        report: called with a line that says so.
        rebuild: read all records again.

    Raises LineageError where the index at `url` cannot be used, or is of another store; with `rebuild` a damaged SQLite
    file there is replaced. Raises StoreError where the store cannot be read.
    """
    file = index_file(store, home) if url is None else _sqlite_file(url)
    try:
        return _open(store, home, url, rebuild)
    except IndexUnusable as error:
        if file is None or (url is not None and not (rebuild and error.damaged and _is_sqlite(file))):
            raise
        unusable = error
    if unusable.damaged:
        try:
            remove(file)
            opened = _open(store, home, url, rebuild)
        except (IndexUnusable, OSError):
            if url is not None:
                raise
        else:
            report(f"the lineage index {file} was damaged ({unusable.reason}): it was rebuilt from the store's records")
            return opened
    report(f"the lineage index {file} cannot be used ({unusable.reason}): this command makes one of its own")
    return _open_temporary(store)


def remove(file: Path) -> None:
    """Remove an index. Raises OSError."""
    for each in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink(missing_ok=True)


def _open(store: Store, home: Path, url: str | None, rebuild: bool) -> tuple[LineageIndex, SyncResult]:
    index = LineageIndex.of(store, home, url)
    try:
        return index, index.rebuild(store) if rebuild else index.sync(store)
    except BaseException:
        index.close()
        raise


def _open_temporary(store: Store) -> tuple[LineageIndex, SyncResult]:
    folder = tempfile.mkdtemp(prefix=f"longhaul-lineage-{os.getpid()}-", dir=MEMORY if MEMORY.is_dir() else None)
    try:
        index, synced = _open(store, Path(folder), None, rebuild=False)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(index, shutil.rmtree, folder, ignore_errors=True)
    return index, synced


def _sqlite_file(url: str) -> Path | None:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # LineageIndex says what is wrong with it
        return None
    return Path(parsed.database) if parsed.drivername.startswith("sqlite") and parsed.database else None


def _is_sqlite(file: Path) -> bool:
    """Whether a file begins as SQLite's do: any other may have been named by mistake."""
    try:
        with file.open("rb") as opened:
            return opened.read(16) == b"SQLite format 3\0"
    except OSError:
        return False
