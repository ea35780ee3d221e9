"""The store at an address: this picks the backend, so that Store and who uses it know of none."""

import os
from pathlib import Path

from infra.store.backend import Backend, StoreError
from infra.store.local import LocalBackend
from infra.store.store import Store


def open_store(address: str | Path, cache: Path | None = None) -> Store:
    """The store at a folder or s3://bucket/prefix.

    `cache` is where folders of a store that is not on this machine are fetched to ($XDG_CACHE_HOME/longhaul if not
    given). Raises StoreError for an address that is neither.
    """
    return Store(open_backend(address), cache or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "longhaul")


def open_backend(address: str | Path) -> Backend:
    """The backend at a folder or s3://bucket/prefix. Raises StoreError for an address that is neither."""
    if str(address).startswith("s3://"):
        from infra.store.s3 import S3Backend  # boto3 takes a while to import

        return S3Backend(str(address))
    if str(address).startswith("s3:"):
        raise StoreError(f"{address}: an S3 address begins with s3:// and is given as text, not as a Path")
    if "://" in str(address):
        raise StoreError(f"{address}: a store is a folder, or s3://bucket/prefix")
    return LocalBackend(Path(address))
