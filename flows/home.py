"""Where this machine keeps all that runs produce, and how to open what lies there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from infra.environment import HOME

if TYPE_CHECKING:
    from infra.lineage.index import LineageIndex
    from infra.lineage.rows import SyncResult
    from infra.store.store import Store

__all__ = ["HOME", "LINEAGE_INDEX", "open_store", "synced_index"]

LINEAGE_INDEX = "LONGHAUL_LINEAGE_INDEX"
"""Names the lineage index for all commands: sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE."""


def open_store(address: str) -> "Store":
    """The store at an address; what is fetched from S3 is cached below HOME. Raises infra.store.store.StoreError."""
    from infra.store.open import open_store as open_with_cache

    return open_with_cache(address, HOME / "cache" / "store")


@contextmanager
def synced_index(
    store: "Store", url: str | None = None, rebuild: bool = False
) -> Iterator[tuple["LineageIndex", "SyncResult"]]:
    """The lineage index of a store, with the newest records in it: at `url`, where LONGHAUL_LINEAGE_INDEX says, or else
    in a file below HOME. That one is made again where it cannot be used, and a warning says so.

    Raises infra.lineage.tables.LineageError where it cannot be used.
    """
    from flows.cli.terminal import warn
    from infra.lineage.index import index_file
    from infra.lineage.opening import open_synced, remove
    from infra.lineage.tables import IndexUnusable

    url = url or os.environ.get(LINEAGE_INDEX) or None
    index, synced = open_synced(store, HOME, url, warn, rebuild)
    for problem in synced.problems:
        warn(f"skipped: {problem.splitlines()[0]}")
    try:
        yield index, synced
    except IndexUnusable as error:
        if url is not None or not error.damaged:
            raise
        file = index_file(store, HOME)
        with suppress(OSError):
            remove(file)
        message = f"the lineage index {file} was damaged ({error.reason}) and is deleted: the same command rebuilds it"
        raise IndexUnusable(message, error.reason, damaged=True) from error
    finally:
        index.close()
