"""Shared by the tests of the store: where it is on the S3 server, folders to put, and damage to what is stored."""

import hashlib
from pathlib import Path

import boto3

from infra.store.local import LocalBackend
from infra.store.s3 import S3Backend
from infra.store.store import Ref, Store

BUCKET = "tests"


def s3_place(test: str) -> str:
    """An S3 address of a test's own, in a bucket that is there."""
    client = boto3.client("s3")
    if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET)
    return f"s3://{BUCKET}/{hashlib.sha256(test.encode()).hexdigest()[:20]}"


def make_folder(folder: Path, **texts: str) -> Path:
    """Write files, by path; a few that differ in kind without any."""
    files = texts or {"config.json": "{}", "empty": "", "deep/er/ü.txt": "text\n"}
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of a folder's files, by path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(store: Store, ref: Ref, path: str, data: bytes | None) -> None:
    """Replace a stored file's bytes behind the store's back, or delete it."""
    key = f"objects/{ref.digest[:2]}/{ref.digest}/{path}"
    if isinstance(store.backend, LocalBackend):
        (store.backend.root / key).unlink(missing_ok=True)
        if data is not None:
            (store.backend.root / key).write_bytes(data)
    else:
        assert isinstance(store.backend, S3Backend)
        bucket, key = store.backend.bucket, f"{store.backend.prefix}/{key}"
        store.backend.client.delete_object(Bucket=bucket, Key=key)
        if data is not None:
            store.backend.client.put_object(Bucket=bucket, Key=key, Body=data)
