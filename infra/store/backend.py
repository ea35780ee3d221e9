"""What a store requires of a storage. The local folder as one is infra/store/local.py, S3 infra/store/s3.py.

Invariant of every backend: a file or text appears under its key whole, or not at all; a file whose bytes do not
have the announced digest never appears.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from infra.errors import LonghaulError
from infra.progress.tasks import task
from infra.store.manifest import FileEntry

SCHEME = "s3://"
"""How an address in S3 begins; any other is a path."""
PROGRESS_FROM = 64 << 20
"""Bytes from which on a transfer reports its progress: smaller ones take no time."""

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Count = Callable[[int], None]
"""Takes the number of bytes handled since the last call; called from many threads."""


class StoreError(LonghaulError, RuntimeError):
    """The storage cannot do what was requested; the message names the path or address and the reason."""


class Corrupted(StoreError):
    """What is stored is not what was put; the message names the file."""


@dataclass(frozen=True)
class StoredFile:
    """A stored file."""

    size: int
    """Bytes; -1 for what is not a regular file."""
    modified: float
    """Seconds since 1970, by the storage's clock."""
    etag: str | None = None
    """S3's name for this state of the file."""


@dataclass(frozen=True)
class Leftover:
    """What an interrupted transfer has left: no folder refers to it."""

    name: str
    size: int
    modified: float
    id: str = ""


class Incoming(Protocol):
    """A folder's files on their way into a storage."""

    @property
    def sha256(self) -> Mapping[str, str]:
        """SHA-256 (hex) of each file, by its path below the folder."""

    def deliver(self, prefix: str) -> None:
        """Make the files below a prefix exactly these; returns when all of them are durable."""


class Backend(Protocol):
    """Keys are relative paths with '/' between their parts."""

    address: str
    """Where the keys live: a folder's absolute path, or s3://bucket/prefix."""

    def incoming(self, folder: Path, sizes: Mapping[str, int], count: Count) -> AbstractContextManager[Incoming]:
        """Read a folder's files once, for delivery within the block. Nothing of them is under a key before that.

        `count` gets the bytes of all files once, by the end of the delivery.
        """

    def files(self, prefix: str) -> dict[str, StoredFile]:
        """Every file below a prefix, by its path below the prefix."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """Their sizes alone."""

    def digests(self, keys: Mapping[str, int], count: Count) -> dict[str, str]:
        """SHA-256 (hex) of stored files' bytes, read from the storage, by key. `keys` has the files' sizes."""

    def read(self, key: str) -> bytes | None:
        """The bytes of a small stored file, or None where there is none."""

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """What `read` gives of each key, in their order; from a remote storage many at a time."""

    def write_text(self, key: str, text: str) -> None:
        """Store a text (UTF-8), replacing the one before."""

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        """The bytes of a small stored file and a tag of this state of it; None where there is none."""

    def write_if(self, key: str, text: str, tag: str | None) -> str | None:
        """Store a text if the file is in the state of a tag, or, for None, missing. Returns the new tag; None where it
        is not in that state, and nothing was written."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete stored files, in this order as far as it matters to readers; a missing one is not an error."""

    def fetch(self, prefix: str, entries: Sequence[FileEntry], cache: Path, count: Count) -> Path:
        """A local folder with exactly these files, each compared with its digest. Raises Damaged where that fails."""

    def leftovers(self) -> list[Leftover]:
        """What interrupted transfers have left, or running transfers are writing."""

    def drop(self, leftovers: Sequence[Leftover]) -> None:
        """Delete leftovers."""


class Damaged(StoreError):
    """Files that are not what they should be; `files` says what is wrong with each, by its path."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = dict(files)
        super().__init__("; ".join(f"{path} {reason}" for path, reason in self.files.items()))


def damage(backend: Backend, prefix: str, entries: Sequence[FileEntry], count: Count) -> dict[str, str]:
    """What is wrong with the files below a prefix, by path: every byte is read and compared."""
    sizes = backend.sizes(prefix)
    wrong = {path: "does not belong there" for path in sizes.keys() - {entry.path for entry in entries}}
    same_size = {}
    for entry in entries:
        if entry.path not in sizes:
            wrong[entry.path] = "is missing"
        elif sizes[entry.path] != entry.size:
            actual = f"{sizes[entry.path]} bytes" if sizes[entry.path] >= 0 else "a link or special file"
            wrong[entry.path] = f"is {actual}, expected {entry.size} bytes"
        else:
            same_size[f"{prefix}/{entry.path}".lstrip("/")] = entry
    digests = backend.digests({key: entry.size for key, entry in same_size.items()}, count)
    differing = {key: entry.size for key, entry in same_size.items() if digests[key] != entry.sha256}
    # A byte may have changed on the way. If it is the stored one, it is so again.
    digests |= backend.digests(differing, lambda done: None) if differing else {}
    for key, entry in same_size.items():
        if digests[key] != entry.sha256:
            wrong[entry.path] = "has another SHA-256 than expected"
    return dict(sorted(wrong.items()))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError that names the path."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {error.strerror or error}") from error


@contextmanager
def transfer_progress(name: str, size: int) -> Iterator[Count]:
    """Report the progress of a transfer of `size` bytes, if it is large."""
    if size < PROGRESS_FROM:
        yield lambda done: None
    else:
        with task(name, round(size / 1e6), "MB") as progress:
            yield lambda done: progress.advance(done / 1e6)


def run_concurrently(work: Callable[[ItemT], ResultT], items: Iterable[ItemT], threads: int) -> list[ResultT]:
    """Results in the items' order, from several threads. The first error ends it: what has not begun is cancelled."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def changed(source: Path) -> StoreError:
    """The error for a source that changed after its digest was taken."""
    return StoreError(f"{source} changed while it was being stored: store it again when it is done")


def file_sha256(path: Path, count: Count) -> str:
    """SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    with naming(path), path.open("rb", buffering=0) as file:
        while read := file.readinto(buffer):
            digest.update(buffer[:read])
            count(read)
    return digest.hexdigest()


def folder_files(folder: Path) -> dict[str, StoredFile]:
    """Every file below a folder, by its path below it; links, sockets and the like have size -1.

    A missing folder has no files. Raises StoreError where a folder cannot be read.
    """
    files: dict[str, StoredFile] = {}
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
                    size = status.st_size if stat.S_ISREG(status.st_mode) else -1
                    files[path] = StoredFile(size, status.st_mtime)
    return files
