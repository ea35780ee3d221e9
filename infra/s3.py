"""S3 and what speaks its protocol, through boto3: the store's backend for s3://bucket/prefix, and downloads of folders.

Credentials, region and endpoint come from the environment as for every AWS tool (AWS_PROFILE, AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL_S3, …). Requests are retried in botocore's standard mode; files travel in parallel parts.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from s3transfer.exceptions import RetriesExceededError
from s3transfer.manager import TransferConfig, TransferManager

from infra.backend import CheckedReader, StoreError, Upload
from infra.files import folder_written_aside

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SCHEME = "s3://"
# S3 takes 10,000 parts: 16 MiB each allow files of 156 GiB, with at most 160 MiB in memory.
TRANSFER = TransferConfig(multipart_threshold=16 << 20, multipart_chunksize=16 << 20)
CONNECTIONS = 16
ABSENT = {"NoSuchKey", "404"}


def split_address(address: str) -> tuple[str, str]:
    """Bucket and prefix of s3://bucket/prefix; the prefix may be empty. Raises StoreError for another form."""
    bucket, _, prefix = address.removeprefix(SCHEME).partition("/")
    if not address.startswith(SCHEME) or not bucket:
        raise StoreError(f"{address!r} is not an S3 address: expected s3://bucket/prefix")
    return bucket, prefix.strip("/")


def connect() -> "S3Client":
    """A client that retries, and that names the bucket in the path where the endpoint is not AWS's own."""
    custom = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    # A server of one's own seldom has a host name for every bucket.
    style = Config(s3={"addressing_style": "path"}) if custom else Config()
    retries = Config(
        retries={"mode": "standard", "max_attempts": 6}, connect_timeout=10, max_pool_connections=CONNECTIONS
    )
    return boto3.session.Session().client("s3", config=retries.merge(style))


@contextmanager
def naming(address: str) -> Iterator[None]:
    """Turn what boto3 raises into a StoreError that names the address."""
    try:
        yield
    except NoCredentialsError as error:
        raise StoreError(f"{address}: no credentials; set AWS_PROFILE, or the key pair's variables") from error
    except (BotoCoreError, ClientError, RetriesExceededError) as error:
        raise StoreError(f"{address}: {error}") from error
    except OSError as error:
        raise StoreError(f"{address}: {error.filename or 'local disk'}: {error.strerror or error}") from error


class S3Backend:
    """Keys of a bucket below a prefix."""

    def __init__(self, address: str) -> None:
        self.bucket, self.prefix = split_address(address)
        self.address = f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")
        self.client = connect()

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}".lstrip("/")

    def put_files(self, uploads: Sequence[Upload]) -> None:
        with TransferManager(self.client, TRANSFER) as transfers:
            # All that s3transfer asks of a source that cannot seek is `read`.
            sources = [cast("IO[bytes]", CheckedReader(upload)) for upload in uploads]
            waiting = [
                (upload, transfers.upload(source, self.bucket, self._key(upload.key)))
                for upload, source in zip(uploads, sources, strict=True)
            ]
            for upload, future in waiting:
                with naming(f"{self.address}/{upload.key}"):
                    future.result()

    def sizes(self, prefix: str) -> dict[str, int]:
        below = f"{self._key(prefix).strip('/')}/".lstrip("/")
        sizes: dict[str, int] = {}
        with naming(f"{self.address}/{prefix}"):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=below):
                # Keys that end in '/' are the empty objects with which consoles show folders.
                files = (item for item in page.get("Contents", ()) if not item["Key"].endswith("/"))
                sizes.update((item["Key"].removeprefix(below), item["Size"]) for item in files)
        return sizes

    def sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        with naming(f"{self.address}/{key}"):
            body = self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"]
            for chunk in body.iter_chunks(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    def read(self, key: str) -> bytes | None:
        with naming(f"{self.address}/{key}"):
            try:
                body = self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"]
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ABSENT:
                    return None
                raise
            return body.read()

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return list(pool.map(self.read, keys))

    def write_text(self, key: str, text: str) -> None:
        with naming(f"{self.address}/{key}"):
            self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=text.encode())

    def download(self, prefix: str, paths: Sequence[str], destination: Path) -> None:
        """Download `prefix`/`path` to `destination`/`path` for all paths, in parallel."""
        with TransferManager(self.client, TRANSFER) as transfers:
            waiting = []
            for path in paths:
                with naming(f"{self.address}/{prefix}"):
                    (destination / path).parent.mkdir(parents=True, exist_ok=True)
                key = self._key(f"{prefix}/{path}".lstrip("/"))
                waiting.append((key, transfers.download(self.bucket, key, str(destination / path))))
            for key, future in waiting:
                with naming(f"{SCHEME}{self.bucket}/{key}"):
                    future.result()

    def fetch(self, prefix: str, paths: Sequence[str], cache: Path, check: Callable[[Path], None]) -> Path:
        cached = cache.expanduser().absolute() / prefix
        with naming(self.address):
            if cached.is_dir():
                try:
                    check(cached)
                except StoreError:
                    # A damaged cache is no loss: what it holds is downloaded again.
                    shutil.rmtree(cached)
                else:
                    return cached
            with folder_written_aside(cached) as aside:
                stored = self.sizes(prefix)
                # What is missing is for `check` to name.
                present = [path for path in paths if path in stored]
                self.download(prefix, present, aside)
                for path in present:
                    (aside / path).chmod(0o444)
                check(aside)
        return cached


def download_folder(address: str, destination: Path, wanted: Callable[[str], bool]) -> list[str]:
    """Download the files below s3://bucket/prefix whose path below it is wanted; returns the other paths, sorted.

    Raises StoreError naming the address, also where nothing lies below it or a path would leave `destination`.
    """
    source = S3Backend(address)
    paths = sorted(source.sizes(""))
    if not paths:
        raise StoreError(f"{address}: there are no files below this address")
    chosen = [path for path in paths if wanted(path)]
    for path in chosen:
        if ".." in path.split("/") or path.startswith("/"):
            raise StoreError(f"{address}: the key {path!r} would be written outside the folder")
    source.download("", chosen, destination)
    return [path for path in paths if path not in set(chosen)]
