"""Data from outside the store: which version lies at an address now, and bringing it to this machine.

An address is a path, s3://bucket/key, or the name of a repository on the hub (owner/name). A branch on the hub may move
and a file may change: `resolve_source` says what is there now, and `bring` brings that.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infra.store.backend import SCHEME, StoreError
from infra.store.source import Source
from infra.store.source_digest import digest_of_address

HUB = "hf://"
DATA_SET = f"{HUB}datasets/"

Kind = Literal["file", "folder", "split"]


def any_file(path: str) -> bool:
    """Whether a file of a folder counts: each does."""
    return True


@dataclass(frozen=True)
class ResolvedSource:
    """What lies at an address now."""

    kind: Kind
    address: str
    """An absolute path, an s3:// address, hf://owner/name@commit, or hf://datasets/owner/name@commit."""
    digest: str
    """Of its bytes on a local disk, of sizes and ETags on S3; on the hub, the commit."""
    belongs: Callable[[str], bool] = any_file
    """Which files of a folder count, by their paths below it."""
    files: tuple[str, ...] = ()
    """The files of a data set's split, in order."""

    def changed(self, cache: Path) -> bool:
        """Whether something else lies at the address by now. A commit of the hub never changes."""
        if self.address.startswith(HUB):
            return False
        return digest_of_address(self.address, cache, self.belongs) != self.digest


def resolve_source(
    kind: Kind,
    address: str,
    cache: Path,
    revision: str | None = None,
    belongs: Callable[[str], bool] = any_file,
) -> ResolvedSource:
    """What lies at an address now. Nothing is downloaded but listings.

    Args:
        cache: a JSON file that remembers digests of local files.
        revision: branch, tag or commit on the hub.

    Raises StoreError naming the address, also where nothing is there.
    """
    if address.startswith(SCHEME):
        return ResolvedSource(kind, address, digest_of_address(address, cache, belongs), belongs)
    path = Path(address).expanduser()
    if path.exists() or kind == "file" or not _may_be_on_the_hub(address):
        if kind == "folder" and not path.is_dir():
            raise StoreError(f"{path} is not a folder: give a folder, s3://bucket/prefix, or owner/name on the hub")
        if revision is not None:
            raise StoreError(f"revision {revision!r} is for a checkpoint on the hub, and {path} is a folder")
        if path.exists() and not path.is_dir() and not path.is_file():
            raise StoreError(f"{path} is a pipe, socket or device, which has no end: give a file")
        if kind == "file" and path.is_dir():
            raise StoreError(f"{path} is a folder: give a file, or s3://bucket/key")
        # Not resolved: a link is one of the user's names for what it leads to.
        return ResolvedSource(kind, os.path.abspath(path), digest_of_address(str(path), cache, belongs), belongs)
    from infra.store.hub import resolve_commit, split_revision

    name, revision = split_revision(address, revision)
    commit = resolve_commit(name, revision)
    return ResolvedSource(kind, f"{HUB}{name}@{commit}", commit, belongs)


def resolve_split(name: str, config: str | None, split: str | None) -> ResolvedSource:
    """The split of a data set on the hub (owner/name, or owner/name@revision) as it is now. Of its files, only the card
    is downloaded. Raises StoreError naming the data set, also where it has no such configuration or split."""
    from infra.store.hub import find_split, resolve_commit, split_revision

    name, revision = split_revision(name)
    commit = resolve_commit(name, revision, "dataset")
    files = find_split(name, commit, config, split)
    return ResolvedSource("split", f"{DATA_SET}{name}@{commit}", commit, set(files).__contains__, files)


def bring(source: ResolvedSource, folder: Path) -> Source:
    """Bring what was resolved to this machine; what is downloaded goes to `folder`. Raises StoreError."""
    if source.address.startswith(SCHEME):
        from infra.store.s3 import download_file, download_folder  # boto3 takes a while to import

        if source.kind == "file":
            return Source(download_file(source.address, folder), source.address)
        left_out = download_folder(source.address, folder, source.belongs)
        return Source(folder, source.address, tuple(left_out))
    if source.address.startswith(HUB):
        from infra.store.hub import download_commit

        name, _, commit = source.address.removeprefix(HUB).removeprefix("datasets/").rpartition("@")
        kind: Literal["model", "dataset"] = "dataset" if source.kind == "split" else "model"
        snapshot = download_commit(name, commit, source.belongs, kind)
        return Source(snapshot.folder, source.address, tuple(snapshot.left_out), source.files)
    return Source(Path(source.address), source.address)


def _may_be_on_the_hub(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(part and part[0] not in ".~" for part in parts)
