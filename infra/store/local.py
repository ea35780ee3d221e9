"""A folder as the store's storage, which may be on a network file system that renames atomically.

A put copies each file once, into `tmp/`, and takes the digest of the copy while that goes to disk: what has a digest is
what is stored. Only then does it know the folder's digest, and renames the copies into place.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from infra.files import make_file, make_folders, share_with_group, sync_folder, write_text_atomically
from infra.store.backend import (
    Count,
    Damaged,
    Leftover,
    StoredFile,
    changed,
    damage,
    file_sha256,
    folder_files,
    naming,
    run_concurrently,
)
from infra.store.manifest import FileEntry

THREADS = min(8, (os.cpu_count() or 1) + 1)
"""Files that are copied or read at one time: digests keep a core busy, and more threads only take turns."""
SYNCS = 2
"""Copies that go to disk at one time, beside those that are being digested."""


class LocalBackend:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.address = str(self.root)
        # Written in a folder of its own: a crash leaves no half file beside stored ones.
        self._scratch = self.root / "tmp"
        self._shared = {self.root, self._scratch, self.root / "objects"}

    @contextmanager
    def incoming(self, folder: Path, sizes: Mapping[str, int], count: Count) -> Iterator["LocalIncoming"]:
        with naming(self._scratch):
            make_folders(self._scratch)
            aside = Path(tempfile.mkdtemp(dir=self._scratch))
            share_with_group(aside)  # garbage collection looks into it, whoever starts that
        try:
            # The largest first: it takes longest, and what is left to do beside it keeps the other threads busy.
            largest_first = sorted(sizes, key=lambda path: (-sizes[path], path))
            copies = {path: aside / str(number) for number, path in enumerate(largest_first)}
            digests = _copy_all(folder, copies, sizes, count)
            yield LocalIncoming(self, copies, digests)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def files(self, prefix: str) -> dict[str, StoredFile]:
        return folder_files(self.root / prefix)

    def sizes(self, prefix: str) -> dict[str, int]:
        return {path: file.size for path, file in self.files(prefix).items()}

    def digests(self, keys: Mapping[str, int], count: Count) -> dict[str, str]:
        return dict(
            zip(keys, run_concurrently(lambda key: file_sha256(self.root / key, count), keys, THREADS), strict=True)
        )

    def read(self, key: str) -> bytes | None:
        with naming(self.root / key):
            try:
                # Without waiting: a pipe that somebody put there has no end.
                with open(
                    self.root / key, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)
                ) as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.read(key) for key in keys]

    def write_text(self, key: str, text: str) -> None:
        with naming(self.root / key):
            make_folders(self._scratch)
            write_text_atomically(self.root / key, text, aside_in=self._scratch)

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        content = self.read(key)
        return None if content is None else (content, hashlib.sha256(content).hexdigest())

    def write_if(self, key: str, text: str, tag: str | None) -> str | None:
        path = self.root / key
        with naming(path):
            make_folders(path.parent)
            # Beside the file, not in it: the file is replaced.
            make_file(path.parent / ".lock")
            with (path.parent / ".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                current = self.read_tagged(key)
                if (current[1] if current else None) != tag:
                    return None
                self.write_text(key, text)
        return hashlib.sha256(text.encode()).hexdigest()

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            path = self.root / key
            with naming(path):
                path.unlink(missing_ok=True)
            for parent in path.parents:
                # Folders that many writers share stay: one may be about to write there.
                if parent in self._shared or parent.parent == self.root / "objects" or not _removed_if_empty(parent):
                    break

    def fetch(self, prefix: str, entries: Sequence[FileEntry], cache: Path, count: Count) -> Path:
        if wrong := damage(self, prefix, entries, count):
            raise Damaged(wrong)
        return self.root / prefix

    def leftovers(self) -> list[Leftover]:
        return [Leftover(f"tmp/{name}", file.size, file.modified) for name, file in self.files("tmp").items()]

    def drop(self, leftovers: Sequence[Leftover]) -> None:
        self.delete([leftover.name for leftover in leftovers])


class LocalIncoming:
    """Copies beside the stored folders, on the same file system."""

    def __init__(self, backend: LocalBackend, copies: Mapping[str, Path], sha256: Mapping[str, str]) -> None:
        self._backend = backend
        self._copies = copies
        self.sha256 = sha256

    def deliver(self, prefix: str) -> None:
        there = self._backend.files(prefix)
        # What is not a regular file goes too: a link to a folder would have the files written elsewhere.
        strays = [path for path, file in there.items() if path not in self._copies or file.size < 0]
        self._backend.delete([f"{prefix}/{path}" for path in strays])
        root = self._backend.root
        folders: set[Path] = set()
        for path, copy in self._copies.items():
            destination = root / prefix / path
            with naming(destination):
                _move(copy, destination)
            folders.update(parent for parent in destination.parents if parent.is_relative_to(root))
        for folder in folders:
            with naming(folder):
                sync_folder(folder)


def _removed_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:  # not empty, or gone already
        return False
    return True


def _move(file: Path, destination: Path) -> None:
    for last in (False, False, True):
        try:
            make_folders(destination.parent)
            return os.replace(file, destination)
        except FileNotFoundError:
            if last:  # else another process has just deleted what was the last file of the folder
                raise


def _copy_all(folder: Path, copies: Mapping[str, Path], sizes: Mapping[str, int], count: Count) -> dict[str, str]:
    """Copy a folder's files, each to its own place, and sync them to disk; returns the copies' SHA-256 by path."""
    syncs: list[Future[None]] = []
    with ThreadPoolExecutor(SYNCS) as disk:

        def take(path: str) -> str:
            with naming(folder / path):
                _copy(folder / path, copies[path], sizes[path])
            syncs.append(disk.submit(_sync, copies[path]))
            return file_sha256(copies[path], count)

        try:
            digests = dict(zip(copies, run_concurrently(take, copies, THREADS), strict=True))
            for sync in syncs:
                sync.result()
        except BaseException:
            disk.shutdown(wait=False, cancel_futures=True)
            raise
    return digests


def _copy(source: Path, destination: Path, size: int) -> None:
    """Copy a file of `size` bytes. Raises StoreError where it is not as long any more, or changes meanwhile."""
    before = source.stat()
    shutil.copyfile(source, destination)
    after = source.stat()
    copied = destination.stat().st_size
    if copied != size or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise changed(source)
    # Stored files are shared by every run that refers to them: nobody writes to them.
    destination.chmod(0o444)


def _sync(file: Path) -> None:
    with naming(file):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
