"""Where everything that runs leave is kept on this machine."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.store.store import Store

HOME = Path(os.environ.get("LONGHAUL_HOME", ".longhaul"))
"""Runs, logs, caches and offline tracking; the store too, unless the recipe says otherwise."""


def open_store(address: str) -> "Store":
    """The store at an address; what comes from afar is cached below HOME. Raises infra.store.store.StoreError."""
    from infra.store.open import open_store as open_with_cache

    return open_with_cache(address, HOME / "cache" / "store")
