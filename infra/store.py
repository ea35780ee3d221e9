"""The store: folders by the digest of what is in them, and small append-only records.

    objects/<2 digits>/<digest>/content/…        the folder, exactly as it was put
    objects/<2 digits>/<digest>/manifest.json    path, size and SHA-256 of each file; its own SHA-256 is the digest
    records/<name>/<time>-<unique>.json          records

Invariant: the manifest is written last, so a folder that has one is whole, and one that has none is not there. A put
that broke off leaves files without a manifest, which the next put of the same folder replaces by the same bytes; so do
two writers at once.

NOTE for callers: empty folders and permissions are not kept. Where the same content was put before, `put` does not read
the stored copy again: `fetch` and `verify` do.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from infra.backend import Backend, Corrupted, LocalBackend, StoreError, Upload, folder_sizes
from infra.record_log import RecordLog
from infra.s3 import SCHEME, S3Backend

__all__ = ["Corrupted", "FileEntry", "Manifest", "Ref", "Store", "StoreError"]


class Ref(BaseModel):
    """What a workflow's artifact holds in place of weights or data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="What the folder is: model, dataset, report, …")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the canonical manifest.")
    address: str = Field(description="The stored folder: a local path, or s3://bucket/prefix/….")
    files: int = Field(ge=1, description="Number of files.")
    size: int = Field(ge=0, description="Bytes of all files together.")


class FileEntry(BaseModel):
    """One file of a stored folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="Below the folder, with '/' between parts.")
    size: int = Field(ge=0, description="Bytes.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("path")
    @classmethod
    def _stays_in_the_folder(cls, path: str) -> str:
        # Joined to a folder when it is fetched: a manifest from elsewhere must not write outside it.
        if "\0" in path or {"", ".", ".."} & set(path.split("/")):
            raise ValueError(f"{path!r} is not a plain path below a folder")
        return path


class Manifest(BaseModel):
    """What is in a folder. Its canonical text (keys and files sorted, no spaces) is what the digest is taken of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    files: tuple[FileEntry, ...] = Field(min_length=1)

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Read a folder's files. Raises StoreError for an empty folder, a link, a special file or an unreadable one."""
        if not folder.is_dir():
            raise StoreError(f"{folder} is not a folder: only folders are stored")
        sizes = folder_sizes(folder)
        if not sizes:
            raise StoreError(f"{folder} has no files: nothing to store")
        local = LocalBackend(folder)
        for path, size in sizes.items():
            if size < 0:
                raise StoreError(f"{folder / path} is a link or special file: put the file itself in its place")
            try:
                path.encode()
            except UnicodeEncodeError as error:
                raise StoreError(f"{str(folder / path)!r}: the file's name is not UTF-8; rename it") from error
        return cls(
            files=tuple(FileEntry(path=path, size=sizes[path], sha256=local.sha256(path)) for path in sorted(sizes))
        )

    @property
    def text(self) -> str:
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def check(self, backend: Backend, prefix: str, address: str) -> None:
        """Compare the files below a prefix, byte by byte. Raises Corrupted naming the first file that differs.

        `address` is what messages call the folder.
        """
        way_out = f"; delete {address.removesuffix('/content')} and run the stage that made it again"
        sizes = backend.sizes(prefix)
        for entry in self.files:
            if entry.path not in sizes:
                raise Corrupted(f"{address}/{entry.path} is missing{way_out}")
            if sizes[entry.path] != entry.size:
                raise Corrupted(f"{address}/{entry.path}: {sizes[entry.path]} bytes, put were {entry.size}{way_out}")
        if extra := sizes.keys() - {entry.path for entry in self.files}:
            raise Corrupted(f"{address}/{min(extra)} was not put there{way_out}")
        for entry in self.files:
            if backend.sha256(f"{prefix}/{entry.path}".lstrip("/")) != entry.sha256:
                raise Corrupted(f"{address}/{entry.path}: its SHA-256 is not the one that was put{way_out}")


class Store:
    """Folders and records below one root.

    It knows nothing of where they are kept: everything goes through a Backend.
    """

    def __init__(self, root: str | Path, cache: Path | None = None) -> None:
        """`root` is a folder, or s3://bucket/prefix; `cache` is where folders from afar are kept once fetched.

        Raises StoreError for a root that is neither.
        """
        self.backend = backend_at(root)
        self._records = RecordLog(self.backend)
        self.cache = cache or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "longhaul"

    def put(self, folder: Path, kind: str) -> Ref:
        """Store a folder's files; a folder with the same content that is there already is left as it is.

        Raises StoreError naming the path: an empty folder, a link in it, a file that changes meanwhile, a full disk, a
        storage that refuses.
        """
        manifest = Manifest.of(folder)
        home = _home(manifest.digest)
        ref = Ref(
            kind=kind,
            digest=manifest.digest,
            address=self._address(manifest.digest),
            files=len(manifest.files),
            size=sum(entry.size for entry in manifest.files),
        )
        if not self.exists(ref):
            self.backend.put_files(
                [Upload(folder / e.path, f"{home}/content/{e.path}", e.size, e.sha256) for e in manifest.files]
            )
            self.backend.write_text(f"{home}/manifest.json", manifest.text)
        return ref

    def exists(self, ref: Ref) -> bool:
        """Whether the folder was stored as a whole. Its content is not read: see verify."""
        return self.backend.read(f"{_home(ref.digest)}/manifest.json") is not None

    def fetch(self, ref: Ref) -> Path:
        """The folder on this machine, read-only, every byte compared with the manifest.

        Of a local store it is the stored folder itself. Raises Corrupted naming the file that differs, StoreError where
        the folder is not stored here or cannot be had.
        """
        manifest, address = self._manifest(ref), self._address(ref.digest)
        return self.backend.fetch(
            f"{_home(ref.digest)}/content",
            [entry.path for entry in manifest.files],
            self.cache,
            lambda folder: manifest.check(LocalBackend(folder), "", address),
        )

    def verify(self, ref: Ref) -> None:
        """Read the stored folder where it is, and raise Corrupted naming the first file that is not what was put."""
        self._manifest(ref).check(self.backend, f"{_home(ref.digest)}/content", self._address(ref.digest))

    def write_record(self, name: str, data: dict[str, Any]) -> None:
        """Add a record (JSON; no NaN) under a name like 'stages/rl'. Records are never replaced.

        Raises ValueError for a name whose parts have other characters than letters, digits and ._=-
        """
        self._records.append(name, data)

    def read_records(self, prefix: str) -> list[dict[str, Any]]:
        """The records whose name is `prefix` or lies below it ('stages' has 'stages/rl'), oldest first.

        NOTE: within one name the order is that of appending; between names, that of the writers' clocks. Raises
        Corrupted naming a record that is not a JSON object.
        """
        return self._records.read(self._records.keys(prefix))

    def list_records(self, prefix: str = "") -> list[str]:
        """Keys of those records ('stages/<key>/<file>.json'), oldest first; of all records without a prefix."""
        return self._records.keys(prefix)

    def read_record(self, key: str) -> dict[str, Any]:
        """One record by its key. Raises StoreError where it is missing, Corrupted where it is not a JSON object."""
        return self._records.read([key])[0]

    def read_many(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Records by their keys, in the same order, many at a time. Raises as read_record does."""
        return self._records.read(keys)

    def _address(self, digest: str) -> str:
        return f"{self.backend.address}/{_home(digest)}/content"

    def _manifest(self, ref: Ref) -> Manifest:
        key = f"{_home(ref.digest)}/manifest.json"
        text = self.backend.read(key)
        if text is None:
            raise StoreError(f"{self.backend.address} has no folder {ref.digest} ({ref.kind}, put at {ref.address})")
        if hashlib.sha256(text).hexdigest() != ref.digest:
            raise Corrupted(f"{self.backend.address}/{key}: its SHA-256 is not {ref.digest}")
        try:
            return Manifest.model_validate_json(text)
        except ValidationError as error:
            raise Corrupted(f"{self.backend.address}/{key} is not a manifest of format 1: {error}") from error


def backend_at(root: str | Path) -> Backend:
    """The backend that keeps a root: a folder, or s3://bucket/prefix."""
    if str(root).startswith(SCHEME):
        return S3Backend(str(root))
    if str(root).startswith("s3:"):
        raise StoreError(f"{root}: an S3 address begins with {SCHEME} and is given as text, not as a Path")
    return LocalBackend(Path(root))


def _home(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest}"
