"""One file of a stored folder, read where it is."""

import hashlib

from infra.store.store import Corrupted, FileEntry, Store, object_prefix


def read_stored_file(store: Store, digest: str, entry: FileEntry) -> bytes:
    """A stored folder's file, as its manifest names it: the bytes that were put. Raises StoreError for other bytes."""
    content = store.backend.read(f"{object_prefix(digest)}/content/{entry.path}")
    if content is None or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise Corrupted(f"{digest}/{entry.path} is not what was put; `longhaul store verify` says more")
    return content
