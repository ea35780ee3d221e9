"""S3 and what speaks its protocol: the store's backend for s3://bucket/prefix, and downloads of folders and files.

infra/store/s3_client.py says how it is configured, infra/store/s3_upload.py and infra/store/s3_download.py how files
travel.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from infra.store.backend import SCHEME, Count, Leftover, StoredFile, StoreError, run_concurrently, transfer_progress
from infra.store.manifest import FileEntry
from infra.store.s3_client import ABSENT, CONNECTIONS, connect, encryption, error_code, naming, split_address
from infra.store.s3_download import ObjectDownload, download, fetch_to_cache, stored_digests, whole_object
from infra.store.s3_upload import Bucket, S3Incoming, send_text

__all__ = ["SCHEME", "S3Backend", "download_file", "download_folder", "split_address"]


CONDITION_FAILED = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
"""What a server answers to a write whose condition does not hold, or that met another write."""


class S3Backend:
    """Keys of a bucket below a prefix."""

    def __init__(self, address: str) -> None:
        self.bucket, self.prefix = split_address(address)
        self.address = f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")
        self.client = connect()
        self._target = Bucket(self.client, self.bucket, encryption(os.environ))

    def key(self, key: str) -> str:
        """The whole key of an object."""
        return f"{self.prefix}/{key}".lstrip("/")

    @contextmanager
    def incoming(self, folder: Path, sizes: Mapping[str, int], count: Count) -> Iterator["S3Incoming"]:
        yield S3Incoming(self._target, self.key, self.files, folder, sizes, count)

    def files(self, prefix: str) -> dict[str, StoredFile]:
        below = f"{self.key(prefix).strip('/')}/".lstrip("/")
        files: dict[str, StoredFile] = {}
        with naming(f"{self.address}/{prefix}"):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=below):
                for item in page.get("Contents", ()):
                    # Keys that end in '/' are the empty objects with which consoles show folders.
                    if not item["Key"].endswith("/"):
                        entry = StoredFile(item["Size"], item["LastModified"].timestamp(), item["ETag"])
                        files[item["Key"].removeprefix(below)] = entry
        return files

    def sizes(self, prefix: str) -> dict[str, int]:
        return {path: file.size for path, file in self.files(prefix).items()}

    def digests(self, keys: Mapping[str, int], count: Count) -> dict[str, str]:
        whole_keys = {key: (self.key(key), size) for key, size in keys.items()}
        return stored_digests(self.client, self.bucket, whole_keys, count)

    def read(self, key: str) -> bytes | None:
        with naming(f"{self.address}/{key}"):
            try:
                return whole_object(self.client, self.bucket, self.key(key))
            except ClientError as error:
                if error_code(error) in ABSENT:
                    return None
                raise

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return run_concurrently(self.read, keys, CONNECTIONS)

    def write_text(self, key: str, text: str) -> None:
        with naming(f"{self.address}/{key}"):
            send_text(self._target, self.key(key), text.encode())

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        with naming(f"{self.address}/{key}"):
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=self.key(key))
                return answer["Body"].read(), answer["ETag"]
            except ClientError as error:
                if error_code(error) in ABSENT:
                    return None
                raise

    def write_if(self, key: str, text: str, tag: str | None) -> str | None:
        condition: Any = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        target = self._target
        with naming(f"{self.address}/{key}"):
            try:
                answer = self.client.put_object(
                    Bucket=self.bucket, Key=self.key(key), Body=text.encode(), **condition, **target.encryption
                )
            except ClientError as error:
                if error_code(error) in CONDITION_FAILED | ABSENT:
                    return None
                raise
            return answer["ETag"]

    def delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), 1000):
            with naming(self.address):
                answer = self.client.delete_objects(
                    Bucket=self.bucket,
                    Delete={"Objects": [{"Key": self.key(key)} for key in keys[start : start + 1000]], "Quiet": True},
                )
            for error in answer.get("Errors", ()):
                raise StoreError(f"{SCHEME}{self.bucket}/{error.get('Key')}: {error.get('Message')}")

    def fetch(self, prefix: str, entries: Sequence[FileEntry], cache: Path, count: Count) -> Path:
        with naming(self.address):
            return fetch_to_cache(
                self.client,
                self.bucket,
                lambda path: self.key(f"{prefix}/{path}"),
                lambda: self.files(prefix),
                entries,
                cache.expanduser().absolute() / prefix,
                count,
            )

    def leftovers(self) -> list[Leftover]:
        below = f"{self.prefix}/" if self.prefix else ""
        leftovers = []
        with naming(self.address):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=below)
            for upload in (upload for page in pages for upload in page.get("Uploads", ())):
                key, id = upload["Key"], upload["UploadId"]
                parts = self.client.get_paginator("list_parts").paginate(Bucket=self.bucket, Key=key, UploadId=id)
                size = sum(part["Size"] for page in parts for part in page.get("Parts", ()))
                leftovers.append(Leftover(key.removeprefix(below), size, upload["Initiated"].timestamp(), id))
        return leftovers

    def drop(self, leftovers: Sequence[Leftover]) -> None:
        for leftover in leftovers:
            with naming(f"{self.address}/{leftover.name}"):
                try:
                    self.client.abort_multipart_upload(
                        Bucket=self.bucket, Key=self.key(leftover.name), UploadId=leftover.id
                    )
                except ClientError as error:
                    if error_code(error) != "NoSuchUpload":  # another did it, or it has been completed
                        raise


def download_folder(address: str, destination: Path, selected: Callable[[str], bool]) -> list[str]:
    """Download the files below s3://bucket/prefix whose path below it is selected; returns the other paths, sorted.

    Raises StoreError naming the address, also where nothing lies below it or a path would leave `destination`.
    """
    source = S3Backend(address)
    files = source.files("")
    if not files:
        raise StoreError(f"{address}: there are no files below this address")
    chosen = {path: file for path, file in sorted(files.items()) if selected(path)}
    for path in chosen:
        if ".." in path.split("/") or path.startswith("/"):
            raise StoreError(f"{address}: the key {path!r} would be written outside the folder")
    objects = [
        ObjectDownload(source.key(path), file.size, file.etag, destination / path, None)
        for path, file in chosen.items()
    ]
    _download(address, source, objects, destination)
    return sorted(files.keys() - chosen.keys())


def download_file(address: str, folder: Path) -> Path:
    """Download the object s3://bucket/key into a folder, under the last part of its key; returns the file's path.

    Raises StoreError naming the address, also where there is no such object.
    """
    parent, _, name = address.rpartition("/")
    source = S3Backend(parent)
    with naming(address):
        try:
            head = source.client.head_object(Bucket=source.bucket, Key=source.key(name))
        except ClientError as error:
            if error_code(error) in ABSENT:
                raise StoreError(f"{address}: there is no such object") from error
            raise
    item = ObjectDownload(source.key(name), head["ContentLength"], head["ETag"], folder / name, None)
    _download(address, source, [item], folder)
    return folder / name


def _download(address: str, source: S3Backend, objects: Sequence[ObjectDownload], folder: Path) -> None:
    with naming(address):
        folder.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=".parts.") as parts,
            transfer_progress(f"download {address}", sum(one.size for one in objects)) as count,
        ):
            download(source.client, source.bucket, objects, Path(parts), count)
