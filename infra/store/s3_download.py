"""Downloads from S3 in parallel parts, compared with the manifest, resumed where they were interrupted.

A folder is filled beside its place in the cache, in `.<name>.partial`: `content/` has the files that are whole,
`parts/` has those under way, each with a list of the parts that it has. Once all are whole, `content/` takes its place.
Nothing in the cache is trusted for being there: every byte is read and compared each time.
"""

import fcntl
import hashlib
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError

from infra.store.backend import SCHEME, Count, Damaged, StoredFile, damage, run_concurrently
from infra.store.local import LocalBackend
from infra.store.manifest import FileEntry
from infra.store.s3_client import ATTEMPTS, again, naming

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AT_ONCE = 10
PART = 8 << 20
AHEAD = 4
"""Parts of a file that are on their way while one is hashed, where a stored file is only read."""


def body(client: "S3Client", **request: Any) -> bytes:
    """The bytes that get_object answers; requested again where they break off."""
    for attempt in range(ATTEMPTS):
        answer = client.get_object(**request)
        try:
            return answer["Body"].read()
        except (HTTPClientError, IncompleteReadError, FlexibleChecksumError):
            if attempt == ATTEMPTS - 1:
                raise
        again(attempt)
    raise AssertionError("the last attempt returns or raises")


def whole_object(client: "S3Client", bucket: str, key: str) -> bytes:
    """A small object's bytes, compared with the checksum that the server keeps of it."""
    return body(client, Bucket=bucket, Key=key, ChecksumMode="ENABLED")


def part_of(client: "S3Client", bucket: str, key: str, start: int, size: int, etag: str | None) -> bytes:
    """`size` bytes (at most PART) of an object from `start`, of the state that the ETag names."""
    if size == 0:
        return b""
    state = {"IfMatch": etag} if etag else {}
    return body(client, Bucket=bucket, Key=key, Range=f"bytes={start}-{start + size - 1}", **state)


def stored_digests(
    client: "S3Client", bucket: str, keys: Mapping[str, tuple[str, int]], count: Count
) -> dict[str, str]:
    """SHA-256 of objects, read from the server; `keys` has each one's whole key and size by its name here."""

    def digest_of(name: str) -> str:
        key, size = keys[name]
        digest = hashlib.sha256()
        with naming(f"{SCHEME}{bucket}/{key}"), ThreadPoolExecutor(AHEAD) as pool:
            waiting: deque[Future[bytes]] = deque()
            for start in range(0, size, PART):
                waiting.append(pool.submit(part_of, client, bucket, key, start, min(PART, size - start), None))
                if len(waiting) > AHEAD:
                    _hash(digest, waiting.popleft().result(), count)
            for part in waiting:
                _hash(digest, part.result(), count)
        return digest.hexdigest()

    small = [name for name, (_, size) in keys.items() if size <= PART]
    large = [name for name, (_, size) in keys.items() if size > PART]
    return dict(
        zip(
            [*small, *large],
            [*run_concurrently(digest_of, small, AT_ONCE), *run_concurrently(digest_of, large, 2)],
            strict=True,
        )
    )


def _hash(digest: Any, data: bytes, count: Count) -> None:
    digest.update(data)
    count(len(data))


@dataclass(frozen=True)
class ObjectDownload:
    """An object to download."""

    key: str
    size: int
    etag: str | None
    destination: Path
    sha256: str | None
    """None where nothing is known to compare with."""


class _Transfer:
    """A file under way: its parts arrive in any order, and are hashed in theirs as soon as they can be."""

    def __init__(self, target: ObjectDownload, data: Path) -> None:
        self.target = target
        self._data, self._journal = data, data.with_name(f"{data.name}.done")
        self._lock = threading.Lock()
        self._digest = hashlib.sha256()
        self._hashed = 0
        self._hashing = False
        self.good = False
        self.parts = max(1, -(-target.size // PART))
        self._done: set[int] = set()
        data.parent.mkdir(parents=True, exist_ok=True)
        if self.parts > 1:
            journal = self._journal.read_text().split() if self._journal.exists() and data.exists() else []
            self._done = {int(number) for number in journal if number.isdigit() and int(number) < self.parts}
            with open(data, "ab") as file:
                file.truncate(target.size)
        self.missing = [number for number in range(self.parts) if number not in self._done]

    def part_size(self, number: int) -> int:
        """Bytes of a part, counted from 0."""
        return min(PART, self.target.size - number * PART)

    def take(self, number: int, data: bytes) -> None:
        """Write a part."""
        if self.parts == 1:
            self._data.write_bytes(data)
        else:
            with open(self._data, "r+b") as file:
                file.seek(number * PART)
                file.write(data)
        with self._lock:
            self._done.add(number)
            if self.parts > 1:
                with open(self._journal, "a") as journal:
                    journal.write(f"{number}\n")
        self.hash_on(number, data)

    def hash_on(self, number: int = -1, data: bytes = b"") -> None:
        """Hash the parts that are there and follow what is hashed, unless another thread does; one is in memory.

        After the last part the file is moved to its destination if it is what was expected, and deleted if not.
        """
        while True:
            with self._lock:
                if self._hashing or self._hashed not in self._done:
                    return
                self._hashing = True
            if self._hashed == number:
                self._digest.update(data)
            else:
                with open(self._data, "rb") as file:
                    file.seek(self._hashed * PART)
                    self._digest.update(file.read(self.part_size(self._hashed)))
            if self._hashed == self.parts - 1:
                self._finish()
            with self._lock:
                self._hashed += 1
                self._hashing = False

    def _finish(self) -> None:
        self.good = self.target.sha256 in (None, self._digest.hexdigest())
        if self.good:
            self.target.destination.parent.mkdir(parents=True, exist_ok=True)
            if self.target.sha256 is not None:
                self._data.chmod(0o444)  # it stands for its digest
            os.replace(self._data, self.target.destination)
        self._data.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)


def download(
    client: "S3Client", bucket: str, objects: Sequence[ObjectDownload], state: Path, count: Count
) -> list[ObjectDownload]:
    """Download objects; returns those that arrived twice with another digest than expected.

    `state` is a folder for parts under way: what an earlier download of the same objects left there is reused.
    """
    failed = _attempt(client, bucket, objects, state / "first", count)
    # A byte may have changed on the way, or in a part that a crash left. If it is the stored one, it is so again.
    return _attempt(client, bucket, failed, state / "second", count)


def _attempt(
    client: "S3Client", bucket: str, objects: Sequence[ObjectDownload], state: Path, count: Count
) -> list[ObjectDownload]:
    files = [_Transfer(one, state / hashlib.sha256(one.key.encode()).hexdigest()) for one in objects]
    for file in files:
        if not file.missing:
            file.hash_on()
        count(file.target.size - sum(map(file.part_size, file.missing)))

    def take(unit: tuple[_Transfer, int]) -> None:
        file, number = unit
        one, start = file.target, number * PART
        with naming(f"{SCHEME}{bucket}/{one.key}"):
            file.take(number, part_of(client, bucket, one.key, start, file.part_size(number), one.etag))
        count(file.part_size(number))

    run_concurrently(take, [(file, number) for file in files for number in file.missing], AT_ONCE)
    return [file.target for file in files if not file.good]


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Wait while another process fills the same folder. The lock goes when its holder does, however that ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch_to_cache(
    client: "S3Client",
    bucket: str,
    key: Callable[[str], str],
    listing: Callable[[], Mapping[str, StoredFile]],
    entries: Sequence[FileEntry],
    cached: Path,
    count: Count,
) -> Path:
    """The folder `cached` with exactly these files. Raises Damaged where what is stored differs.

    `stored` lists what is on the server, by path; `key` makes a path an object's key.
    """
    partial = cached.with_name(f".{cached.name}.partial")
    content = partial / "content"
    with _exclusive(cached.with_name(f".{cached.name}.lock")):
        if cached.is_dir():
            if not damage(LocalBackend(cached), "", entries, count):
                return cached
            # A damaged cache is not a loss: what is wrong in it is downloaded again.
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            cached.rename(content)
            count = _nothing  # all of it is counted already
        content.mkdir(parents=True, exist_ok=True)
        there = listing()
        wrong = {e.path: "is missing" for e in entries if e.path not in there}
        for entry in entries:
            if entry.path in there and there[entry.path].size != entry.size:
                wrong[entry.path] = f"is {there[entry.path].size} bytes, expected {entry.size} bytes"
        if wrong:
            raise Damaged(wrong)
        local = LocalBackend(content)
        lacking = damage(local, "", entries, _nothing)
        local.delete([path for path, reason in lacking.items() if reason != "is missing"])
        count(sum(entry.size for entry in entries if entry.path not in lacking))
        content.mkdir(parents=True, exist_ok=True)
        objects = [
            ObjectDownload(key(e.path), e.size, there[e.path].etag, content / e.path, e.sha256)
            for e in entries
            if e.path in lacking
        ]
        bad = {one.destination for one in download(client, bucket, objects, partial / "parts", count)}
        if bad:
            raise Damaged({e.path: "has another SHA-256 than expected" for e in entries if content / e.path in bad})
        content.rename(cached)
        shutil.rmtree(partial, ignore_errors=True)
    return cached


def _nothing(done: int) -> None:
    pass
