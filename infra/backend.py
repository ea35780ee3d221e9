"""What a store asks of a storage, and the local folder as one. The other is infra/s3.py.

Invariant of every backend: a file or text appears under its key whole, or not at all; a file whose bytes are not those
that were announced never appears.
"""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from infra.files import sync_folder, write_text_atomically


class StoreError(RuntimeError):
    """The storage cannot do what was asked; the message names the path or address and the reason."""


class Corrupted(StoreError):
    """What is stored is not what was put; the message names the file."""


@dataclass(frozen=True)
class Upload:
    """A file to store under a key, with the size in bytes and the SHA-256 (hex) that it is announced to have."""

    source: Path
    key: str
    size: int
    sha256: str


class CheckedReader:
    """Reads an upload's source once, and raises StoreError at its end where the bytes are not the announced ones.

    It opens the source at the first read, so that thousands of uploads may wait without an open file each. It cannot
    seek: s3transfer then reads it once and in order, before it completes the upload.
    """

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self._file: BinaryIO | None = None
        self._left = upload.size
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def read(self, amount: int = -1) -> bytes:
        if self._file is None:
            self._file = self.upload.source.open("rb")
        elif self._file.closed:
            return b""
        data = self._file.read(self._left if amount < 0 else min(amount, self._left))
        self._digest.update(data)
        self._left -= len(data)
        if self._left == 0 or (not data and amount != 0):
            self.close()
            if self._left or self._digest.hexdigest() != self.upload.sha256:
                raise StoreError(
                    f"{self.upload.source} changed while it was being stored: store it again when it is done"
                )
        return data


class Backend(Protocol):
    """Keys are relative paths with '/' between their parts."""

    address: str
    """Where the keys live: a folder's absolute path, or s3://bucket/prefix."""

    def put_files(self, uploads: Sequence[Upload]) -> None:
        """Store files; returns when all of them are durable."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of every file below a prefix, by its path below the prefix; -1 for what is not a regular file."""

    def sha256(self, key: str) -> str:
        """SHA-256 (hex) of a stored file's bytes, read anew."""

    def read(self, key: str) -> bytes | None:
        """The bytes of a small stored file, or None where there is none."""

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """What `read` gives of each key, in their order; from afar many at a time."""

    def write_text(self, key: str, text: str) -> None:
        """Store a text (UTF-8), replacing the one before."""

    def fetch(self, prefix: str, paths: Sequence[str], cache: Path, check: Callable[[Path], None]) -> Path:
        """A local folder with the files `prefix`/`path`, for which `check` did not raise."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError that names the path."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {error.strerror or error}") from error


class LocalBackend:
    """A folder, which may be on a network file system that renames atomically."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.address = str(self.root)

    def put_files(self, uploads: Sequence[Upload]) -> None:
        # Written aside in a folder of their own: a crash leaves no half file beside stored ones.
        scratch = self.root / "tmp"
        with naming(scratch):
            scratch.mkdir(parents=True, exist_ok=True)
        folders: set[Path] = set()
        for upload in uploads:
            destination = self.root / upload.key
            with naming(destination), CheckedReader(upload) as source:
                descriptor, aside = tempfile.mkstemp(dir=scratch)
                try:
                    with os.fdopen(descriptor, "wb") as file:
                        shutil.copyfileobj(source, file, 1 << 20)
                        file.flush()
                        # Stored files are shared by every run that refers to them: nobody writes to them.
                        os.fchmod(descriptor, 0o444)
                        os.fsync(descriptor)
                    destination.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(aside, destination)
                except BaseException:
                    Path(aside).unlink(missing_ok=True)
                    raise
            folders.update(p for p in destination.parents if p.is_relative_to(self.root))
        for folder in folders:
            with naming(folder):
                sync_folder(folder)

    def sizes(self, prefix: str) -> dict[str, int]:
        return folder_sizes(self.root / prefix)

    def sha256(self, key: str) -> str:
        with naming(self.root / key), (self.root / key).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, key: str) -> bytes | None:
        with naming(self.root / key):
            try:
                return (self.root / key).read_bytes()
            except FileNotFoundError:
                return None

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.read(key) for key in keys]

    def write_text(self, key: str, text: str) -> None:
        with naming(self.root / key):
            write_text_atomically(self.root / key, text)

    def fetch(self, prefix: str, paths: Sequence[str], cache: Path, check: Callable[[Path], None]) -> Path:
        check(self.root / prefix)
        return self.root / prefix


def folder_sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below a folder, by its path below it; -1 for links, sockets and the like.

    A folder that is not there has no files. Raises StoreError where a folder cannot be read.
    """

    sizes: dict[str, int] = {}
    # By scandir: a store has tens of thousands of files, and os.walk with Path asks the disk three times for each.
    waiting = [("", os.fspath(folder))]
    with naming(folder):
        while waiting:
            below, parent = waiting.pop()
            try:
                entries = os.scandir(parent)
            except FileNotFoundError:
                continue
            with entries:
                for entry in entries:
                    path = below + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((f"{path}/", entry.path))
                        continue
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    sizes[path] = status.st_size if stat.S_ISREG(status.st_mode) else -1
    return sizes
