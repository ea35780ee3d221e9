"""Uploads to S3 that the server checks, resumed where they were interrupted.

Every object and every part is sent with its SHA-256, which the server compares with what arrived; of a server that
does not know such checksums, the MD5 that it answers is compared. Files larger than a part travel as multipart uploads.
One that broke off stays on the server, and the next put of the same bytes sends only the parts that it lacks.
"""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from infra.store.backend import SCHEME, Count, StoredFile, StoreError, changed, run_concurrently
from infra.store.backend import naming as naming_path
from infra.store.s3_client import ABSENT, ATTEMPTS, again, base64_digest, error_code, naming

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AT_ONCE = 10
PART = 16 << 20
"""Bytes of a part: with ten at once, at most 160 MiB are in memory."""
MOST_PARTS = 10_000
REFUSED = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
"""What a server answers that got other bytes than were announced."""

CROSSED = {"NoSuchUpload", "InvalidPart"}
"""What a server answers where another writer was at the same upload."""


@dataclass(frozen=True)
class Bucket:
    """Where uploads go, and how the server is to encrypt them."""

    client: "S3Client"
    name: str
    encryption: Any

    def address(self, key: str) -> str:
        return f"{SCHEME}{self.name}/{key}"


@dataclass(frozen=True)
class Source:
    """A file to upload, with the digests (hex) that it had when it was read first."""

    path: Path
    size: int
    sha256: str
    part_size: int
    parts: tuple[str, ...]
    """SHA-256 of each part; one where the file is sent as a whole."""

    @property
    def checksum(self) -> str:
        """What S3 calls the checksum of the whole object: of one in parts, the digest of their digests."""
        if len(self.parts) == 1:
            return base64_digest(self.sha256)
        return base64_digest(hashlib.sha256(b"".join(map(bytes.fromhex, self.parts))).hexdigest())

    def read(self, part: int) -> bytes:
        """The bytes of a part, counted from 0."""
        start = part * self.part_size
        expected = min(self.part_size, self.size - start)
        with naming_path(self.path), self.path.open("rb") as file:
            file.seek(start)
            data = file.read(expected)
        if len(data) != expected:
            raise changed(self.path)
        return data


def read_source(path: Path, size: int) -> Source:
    """Read a file of `size` bytes once, and take all digests."""
    # Whole MiB, and as few parts as S3 allows.
    part_size = max(PART, -(-size // MOST_PARTS // (1 << 20)) * (1 << 20))
    whole, parts, read = hashlib.sha256(), [], 0
    with naming_path(path), path.open("rb", buffering=0) as file, ThreadPoolExecutor(1) as second:
        while size > part_size and (data := file.read(part_size)):
            # The whole and the part are hashed by a core each.
            both = second.submit(whole.update, data)
            parts.append(hashlib.sha256(data).hexdigest())
            both.result()
            read += len(data)
        if size <= part_size:
            whole, read = hashlib.sha256(), 0
            while data := file.read(1 << 20):
                whole.update(data)
                read += len(data)
            parts = [whole.hexdigest()]
    if read != size or len(parts) != max(1, -(-size // part_size)):
        raise changed(path)
    return Source(path, size, whole.hexdigest(), part_size, tuple(parts))


def send(bucket: Bucket, key: str, data: bytes, sha256: str, source: Path | None, call: Callable[..., Any]) -> Any:
    """Send bytes by `call` (put_object or upload_part) until the server has exactly these; returns its answer.

    Raises StoreError where it does not come to that, or where the bytes are not those that have this digest.
    """
    checksum = base64_digest(sha256)
    for attempt in range(ATTEMPTS):
        try:
            answer = call(Bucket=bucket.name, Key=key, Body=data, ChecksumAlgorithm="SHA256", ChecksumSHA256=checksum)
        except ClientError as error:
            if error_code(error) not in REFUSED:
                raise
        else:
            if _arrived(answer, data, checksum):
                return answer
        # Either the source has changed since its digest was taken, or a byte did on the way.
        if hashlib.sha256(data).hexdigest() != sha256:
            raise changed(source or Path(key))
        again(attempt)
    raise StoreError(
        f"{bucket.address(key)}: the server got other bytes than were sent, {ATTEMPTS} times: something between here "
        "and there changes them"
    )


def _arrived(answer: Any, data: bytes, checksum: str) -> bool:
    if said := answer.get("ChecksumSHA256"):
        return said == checksum
    if "kms" in answer.get("ServerSideEncryption", ""):
        return True  # its ETag is not an MD5; the transport's own checks are all there is
    return answer["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()


def send_text(bucket: Bucket, key: str, data: bytes) -> None:
    """Store a small object."""
    put = lambda **where: bucket.client.put_object(**where, **bucket.encryption)  # noqa: E731
    send(bucket, key, data, hashlib.sha256(data).hexdigest(), None, put)


class S3Incoming:
    """A folder whose digests are known. Its bytes are read once more when they are sent."""

    def __init__(
        self,
        bucket: Bucket,
        key: Callable[[str], str],
        there: Callable[[str], dict[str, StoredFile]],
        folder: Path,
        sizes: Mapping[str, int],
        count: Count,
    ) -> None:
        self._bucket, self._key, self._there, self._count = bucket, key, there, count
        read = run_concurrently(lambda path: read_source(folder / path, sizes[path]), sizes, 4)
        self._sources = dict(zip(sizes, read, strict=True))
        self.sha256 = {path: source.sha256 for path, source in self._sources.items()}

    def deliver(self, prefix: str) -> None:
        there = self._there(prefix)
        for stray in (self._key(f"{prefix}/{path}") for path in there.keys() - self._sources.keys()):
            with naming(self._bucket.address(stray)):
                self._bucket.client.delete_object(Bucket=self._bucket.name, Key=stray)

        def take(path: str) -> None:
            key, source = self._key(f"{prefix}/{path}"), self._sources[path]
            with naming(self._bucket.address(key)):
                if path in there and there[path].size == source.size and self._is_whole(key, source):
                    self._count(source.size)
                elif len(source.parts) == 1:
                    self._whole(key, source)
                else:
                    self._in_parts(key, source)

        # Large files one after the other, for each keeps all connections busy by its parts.
        run_concurrently(take, [path for path, source in self._sources.items() if len(source.parts) == 1], AT_ONCE)
        run_concurrently(take, [path for path, source in self._sources.items() if len(source.parts) > 1], 1)

    def _is_whole(self, key: str, source: Source) -> bool:
        """Whether the server has an object with the source's checksum, encrypted as requested."""
        head = self._head(key)
        # Of an object in parts it may end in '-' and their number.
        checksum = head.get("ChecksumSHA256", "").partition("-")[0]
        return head.get("ContentLength") == source.size and checksum == source.checksum and self._is_encrypted(head)

    def _head(self, key: str) -> Any:
        try:
            return self._bucket.client.head_object(Bucket=self._bucket.name, Key=key, ChecksumMode="ENABLED")
        except ClientError as error:
            if error_code(error) in ABSENT:
                return {}
            raise

    def _is_encrypted(self, head: Any) -> bool:
        expected = self._bucket.encryption.get("ServerSideEncryption")
        return expected is None or head.get("ServerSideEncryption") == expected

    def _whole(self, key: str, source: Source) -> None:
        put = lambda **where: self._bucket.client.put_object(**where, **self._bucket.encryption)  # noqa: E731
        send(self._bucket, key, source.read(0), source.sha256, source.path, put)
        self._count(source.size)

    def _in_parts(self, key: str, source: Source) -> None:
        counted: set[int] = set()
        for upload in (self._broken_off(key), None, None):
            try:
                self._send_parts(key, source, upload or self._begin(key), counted)
            except ClientError as error:
                # Another writer of the same bytes has completed, dropped or replaced parts of it, or the answer to our
                # own request to complete it was lost with the connection.
                if error_code(error) not in CROSSED:
                    raise
                if self._is_whole(key, source):
                    return
            else:
                # One that an earlier put began may have been begun without encryption.
                if upload is None or self._is_encrypted(self._head(key)):
                    return
        raise StoreError(f"{self._bucket.address(key)}: others write the same object all the time; try again later")

    def _begin(self, key: str) -> str:
        begun = self._bucket.client.create_multipart_upload(
            Bucket=self._bucket.name, Key=key, ChecksumAlgorithm="SHA256", **self._bucket.encryption
        )
        return begun["UploadId"]

    def _broken_off(self, key: str) -> str | None:
        """The newest upload of this key that was begun and neither completed nor dropped."""
        pages = self._bucket.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket.name, Prefix=key
        )
        uploads = [upload for page in pages for upload in page.get("Uploads", ())]
        # Uploads of other keys that begin alike, and of tools that have parts checked in another way, are left alone.
        uploads = [u for u in uploads if u["Key"] == key and u.get("ChecksumAlgorithm", "SHA256") == "SHA256"]
        return max(uploads, key=lambda upload: upload["Initiated"])["UploadId"] if uploads else None

    def _send_parts(self, key: str, source: Source, upload: str, counted: set[int]) -> None:
        client, name = self._bucket.client, self._bucket.name
        pages = client.get_paginator("list_parts").paginate(Bucket=name, Key=key, UploadId=upload)
        have = {part["PartNumber"]: part for page in pages for part in page.get("Parts", ())}

        def take(number: int) -> dict[str, Any]:
            data, sha256 = source.read(number - 1), source.parts[number - 1]
            there = have.get(number)
            if there is None or there["Size"] != len(data) or not _arrived(there, data, base64_digest(sha256)):
                part = lambda **where: client.upload_part(**where, UploadId=upload, PartNumber=number)  # noqa: E731
                there = send(self._bucket, key, data, sha256, source.path, part)
            if number not in counted:
                counted.add(number)
                self._count(len(data))
            known = {"ChecksumSHA256": there["ChecksumSHA256"]} if there.get("ChecksumSHA256") else {}
            return {"PartNumber": number, "ETag": there["ETag"], **known}

        try:
            parts: Any = run_concurrently(take, range(1, len(source.parts) + 1), AT_ONCE)
        except StoreError:
            # The bytes are not what was announced: nobody can complete it.
            client.abort_multipart_upload(Bucket=name, Key=key, UploadId=upload)
            raise
        client.complete_multipart_upload(Bucket=name, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
