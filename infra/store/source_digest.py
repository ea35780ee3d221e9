"""The digest of what lies at an address: a local file or folder, or s3://bucket/prefix. It says that data changed.

Of an object it holds path, size and ETag, S3's name for its bytes: a listing is read, and no object.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from infra.store.backend import SCHEME, StoreError
from infra.store.file_digest import digest_of_path


def digest_of_address(address: str, cache: Path, belongs: Callable[[str], bool] = lambda path: True) -> str:
    """Of one address; of a folder, of those files that belong.

    Raises StoreError where nothing is there, or it cannot be read.
    """
    if not address.startswith(SCHEME):
        try:
            return digest_of_path(Path(address), cache, belongs)
        except OSError as error:
            raise StoreError(f"{address} cannot be read: {error.strerror or error}") from error
    from infra.store.s3 import S3Backend  # boto3 takes a while to import

    # The address may be an object's own, or a prefix with objects below it.
    parent, _, name = address.rstrip("/").rpartition("/")
    files = S3Backend(address).files("")
    if not files and parent.startswith(SCHEME) and parent != SCHEME.rstrip("/"):
        beside = S3Backend(parent).files("")
        files = {name: beside[name]} if name in beside else {}
    if not files:
        raise StoreError(f"{address}: there is nothing at this address")
    listing = {path: [file.size, file.etag] for path, file in files.items() if belongs(path)}
    return hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()
