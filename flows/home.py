"""Where this machine keeps all that runs produce, and how to open what lies there."""

import os
from typing import TYPE_CHECKING

from infra.environment import HOME

if TYPE_CHECKING:
    from infra.lineage.index import LineageIndex
    from infra.store.store import Store

__all__ = ["HOME", "LINEAGE_INDEX", "open_index", "open_store"]

LINEAGE_INDEX = "LONGHAUL_LINEAGE_INDEX"
"""Names the lineage index for all commands: sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE."""


def open_store(address: str) -> "Store":
    """The store at an address; what is fetched from S3 is cached below HOME. Raises infra.store.store.StoreError."""
    from infra.store.open import open_store as open_with_cache

    return open_with_cache(address, HOME / "cache" / "store")


def open_index(store: "Store", url: str | None = None) -> "LineageIndex":
    """The lineage index of a store: at `url`, where LONGHAUL_LINEAGE_INDEX says, or else in a file below HOME.

    Raises infra.lineage.tables.LineageError where it cannot be used.
    """
    from infra.lineage.index import LineageIndex

    return LineageIndex.of(store, HOME, url or os.environ.get(LINEAGE_INDEX) or None)
