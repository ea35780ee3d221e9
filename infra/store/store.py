"""The store: folders by the digest of what is in them, and small append-only records.

    store.json                                   {"format": N}, written with the first of what follows
    objects/<2 digits>/<digest>/content/…        the folder, exactly as it was stored
    objects/<2 digits>/<digest>/manifest.json    path, size and SHA-256 of each file; its own SHA-256 is the digest
    objects/<2 digits>/<digest>/collected.json   where the folder was deleted: when (infra/store/garbage.py)
    records/<name>/<time>-<unique>.json          records (infra/store/record_log.py)
    tmp/                                         files that are being written, in a local store

Invariant: the manifest is written last, so a folder that has one is whole, and one that has none is not there. A put
that broke off leaves files without a manifest; the next put of the same folder uses those that are right and replaces
the others. So do two writers at once, and a put of what was damaged meanwhile.

NOTE for callers: empty folders and permissions are not stored.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.store.backend import Backend, Corrupted, Damaged, StoreError, damage, folder_files, transfer_progress
from infra.store.manifest import FileEntry, Manifest
from infra.store.record_log import RecordLog

__all__ = ["Corrupted", "FileEntry", "Manifest", "Ref", "Store", "StoreError"]

FORMAT = 1
"""The newest format of a store that this version reads, and the one that it writes."""
FORMAT_KEY = "store.json"
COLLECTED = "collected.json"
WAY_OUT = "run the stage that made it again, which stores it again"


class _Format(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int = Field(ge=1)


class Ref(BaseModel):
    """What a workflow's artifact holds in place of weights or data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="What the folder is: model, dataset, report, …")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the canonical manifest.")
    address: str = Field(description="The stored folder: a local path, or s3://bucket/prefix/….")
    files: int = Field(ge=1, description="Number of files.")
    size: int = Field(ge=0, description="Bytes of all files together.")


class Store:
    """Folders and records of a backend. infra/store/open.py makes the store at an address."""

    def __init__(self, backend: Backend, cache: Path) -> None:
        """`cache` is the folder where a backend that is not on this machine keeps what it fetched."""
        self.backend = backend
        self.cache = cache
        self._format: int | None = None
        self._records = RecordLog(backend)

    def put(self, folder: Path, kind: str) -> Ref:
        """Store a folder's files. A folder with the same content that is there already is made whole, if it is not.

        Raises StoreError naming the path: an empty folder, a link in it, a file that changes meanwhile, a full disk, a
        storage that refuses.
        """
        sizes = _regular_files(folder)
        self.open(writing=True)
        with (
            transfer_progress(f"store {kind}", sum(sizes.values())) as count,
            self.backend.incoming(folder, sizes, count) as incoming,
        ):
            files = [FileEntry(path=path, size=sizes[path], sha256=incoming.sha256[path]) for path in sorted(sizes)]
            manifest = Manifest(files=tuple(files))
            digest = manifest.digest
            incoming.deliver(f"{object_prefix(digest)}/content")
            # Written even where it exists: gc spares what was put recently.
            self.backend.write_text(f"{object_prefix(digest)}/manifest.json", manifest.text)
        return Ref(kind=kind, digest=digest, address=self._address(digest), files=len(files), size=manifest.size)

    def exists(self, ref: Ref) -> bool:
        """Whether the folder was stored as a whole. Its content is not read: see verify."""
        self.open()
        return self.backend.read(f"{object_prefix(ref.digest)}/manifest.json") is not None

    def fetch(self, ref: Ref) -> Path:
        """The folder on this machine, read-only, every byte compared with the manifest.

        Of a local store it is the stored folder itself. Raises Corrupted naming the file that differs, StoreError where
        the folder is not stored here or cannot be had.
        """
        manifest = self.manifest(ref.digest)
        try:
            with transfer_progress(f"fetch {ref.kind}", manifest.size) as count:
                return self.backend.fetch(f"{object_prefix(ref.digest)}/content", manifest.files, self.cache, count)
        except Damaged as error:
            raise self._corrupted(ref.digest, error.files) from error

    def verify(self, ref: Ref) -> None:
        """Read the stored folder where it is, and raise Corrupted naming the first file that differs."""
        if wrong := self.damage(ref.digest):
            raise self._corrupted(ref.digest, wrong)

    def damage(self, digest: str) -> dict[str, str]:
        """What is wrong with each file of a stored folder, by its path; every byte is read. Empty where it is whole.

        Raises StoreError where the folder is not stored here, Corrupted where its manifest is damaged.
        """
        manifest = self.manifest(digest)
        with transfer_progress(f"verify {digest[:12]}", manifest.size) as count:
            return damage(self.backend, f"{object_prefix(digest)}/content", manifest.files, count)

    def manifest(self, digest: str) -> Manifest:
        """The manifest of a stored folder.

        Raises StoreError where the folder is not stored here, Corrupted where its manifest is damaged.
        """
        self.open()
        key = f"{object_prefix(digest)}/manifest.json"
        text = self.backend.read(key)
        if text is None:
            collected = self.backend.read(f"{object_prefix(digest)}/{COLLECTED}")
            raise StoreError(
                f"{self.backend.address} has no folder {digest}"
                + (": `longhaul store gc` deleted it" if collected else "")
                + "; run the stage that made it again"
            )
        try:
            return self._parsed(key, digest, text)
        except Corrupted:  # on the way, perhaps: then it is not so again
            return self._parsed(key, digest, self.backend.read(key) or b"")

    def _parsed(self, key: str, digest: str, text: bytes) -> Manifest:
        where = f"{self.backend.address}/{key}"
        if hashlib.sha256(text).hexdigest() != digest:
            raise Corrupted(f"{where}: its SHA-256 is not {digest}; {WAY_OUT}")
        try:
            return Manifest.model_validate_json(text)
        except ValidationError as error:
            raise Corrupted(f"{where} is not a manifest of format 1: {error}") from error

    def _corrupted(self, digest: str, wrong: Mapping[str, str]) -> Corrupted:
        path, reason = next(iter(wrong.items()))
        more = f" (and {len(wrong) - 1} files more)" if len(wrong) > 1 else ""
        return Corrupted(f"{self._address(digest)}/{path} {reason}{more}; {WAY_OUT}")

    def write_record(self, name: str, data: dict[str, Any]) -> None:
        """Add a record (JSON; no NaN) under a name like 'stages/rl'. Records are never replaced.

        Raises ValueError for a name whose parts have other characters than letters, digits and ._=-
        """
        self.open(writing=True)
        self._records.append(name, data)

    def read_records(self, prefix: str) -> list[dict[str, Any]]:
        """The records whose name is `prefix` or lies below it ('stages' has 'stages/rl'), oldest first.

        NOTE: within one name the order is that of appending; between names, that of the writers' clocks. Raises
        Corrupted naming a record that is not a JSON object.
        """
        self.open()
        return self._records.read(self._records.keys(prefix))

    def list_records(self, prefix: str = "") -> list[str]:
        """Keys of those records ('stages/<key>/<file>.json'), oldest first; of all records without a prefix."""
        self.open()
        return self._records.keys(prefix)

    def read_record(self, key: str) -> dict[str, Any]:
        """One record by its key. Raises StoreError where it is missing, Corrupted where it is not a JSON object."""
        self.open()
        return self._records.read([key])[0]

    def read_many(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Records by their keys, in the same order, many at a time. Raises as read_record does."""
        self.open()
        return self._records.read(keys)

    def read_valid(self, keys: Sequence[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """By key, the records that can be read, in the keys' order, and why the others cannot."""
        self.open()
        return self._records.read_valid(keys)

    def _address(self, digest: str) -> str:
        return f"{self.backend.address}/{object_prefix(digest)}/content"

    def open(self, writing: bool = False) -> None:
        """Refuse a store of a newer format (StoreError), and mark one that is written to for the first time."""
        if self._format is None:
            self._format = read_format(self.backend)
        if writing and self._format == 0:
            self.backend.write_text(FORMAT_KEY, json.dumps({"format": FORMAT}) + "\n")
            self._format = FORMAT


def read_format(backend: Backend) -> int:
    """The format that a store states; 0 where it states none: it is empty, or older than the first that does.

    Raises StoreError for a newer format than this version knows, Corrupted where what it says cannot be read.
    """
    text = backend.read(FORMAT_KEY)
    if text is None:
        return 0
    where = f"{backend.address}/{FORMAT_KEY}"
    try:
        version = _Format.model_validate_json(text)
    except ValidationError as error:
        raise Corrupted(f'{where} is not like {{"format": {FORMAT}}}: copy it from a backup, or write that') from error
    if version.format > FORMAT:
        raise StoreError(
            f"{where}: the store is of format {version.format}, and this version of Longhaul knows formats up to "
            f"{FORMAT}: upgrade it, or name another store"
        )
    return version.format


def _regular_files(folder: Path) -> dict[str, int]:
    """Sizes of a folder's files. Raises StoreError for an empty folder, a link, a special file, or a bad name."""
    if not folder.is_dir():
        raise StoreError(f"{folder} is not a folder: only folders are stored")
    sizes = {path: file.size for path, file in folder_files(folder).items()}
    if not sizes:
        raise StoreError(f"{folder} has no files: nothing to store")
    for path, size in sizes.items():
        if size < 0:
            raise StoreError(f"{folder / path} is a link or special file: put the file itself in its place")
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise StoreError(f"{str(folder / path)!r}: the file's name is not UTF-8; rename it") from error
    return sizes


def object_prefix(digest: str) -> str:
    """The key below which a folder is stored."""
    return f"objects/{digest[:2]}/{digest}"
