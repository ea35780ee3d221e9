"""The store on S3 (moto's server): the cache, parts, encryption, errors of the server, and downloads of folders."""

import socket
from pathlib import Path

import boto3
import pytest

from infra.store.open import open_store
from infra.store.s3 import S3Backend, download_folder, split_address
from infra.store.store import StoreError
from tests.infra.store.store_common import BUCKET, contents, damage, make_folder, s3_place


@pytest.fixture
def place(s3: None, request: pytest.FixtureRequest) -> str:
    return s3_place(request.node.nodeid)


def test_a_damaged_cache_is_downloaded_again(place: str, tmp_path: Path) -> None:
    store = open_store(place, tmp_path / "cache")
    ref = store.put(make_folder(tmp_path / "folder"), "model")
    cached = store.fetch(ref)
    (cached / "config.json").chmod(0o644)
    (cached / "config.json").write_text("[]")
    assert store.fetch(ref) == cached
    assert (cached / "config.json").read_text() == "{}"


def test_a_whole_cache_is_not_downloaded_again(place: str, tmp_path: Path) -> None:
    store = open_store(f"s3://{BUCKET}", tmp_path / "cache")
    ref = store.put(make_folder(tmp_path / "folder"), "model")
    store.fetch(ref)
    damage(store, ref, "content/config.json", None)
    assert (store.fetch(ref) / "config.json").read_text() == "{}"


def test_files_larger_than_a_part_survive_the_round_trip(place: str, tmp_path: Path) -> None:
    store = open_store(place, tmp_path / "cache")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights").write_bytes(bytes(range(256)) * (33 << 12))
    assert (store.fetch(store.put(folder, "model")) / "weights").read_bytes() == (folder / "weights").read_bytes()


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    folder = make_folder(tmp_path / "folder")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/store"):
        open_store(tmp_path / "file" / "store").put(folder, "model")
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/.*NoSuchBucket"):
        open_store("s3://no-such-bucket").put(folder, "model")
    with pytest.raises(StoreError, match="S3 address begins with s3://"):
        open_store(Path("s3://bucket/prefix"))
    with pytest.raises(StoreError, match="a store is a folder, or s3://bucket/prefix"):
        open_store("gs://bucket/prefix")


def test_a_server_that_does_not_answer_is_an_error_of_the_store(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0)
    with pytest.raises(StoreError, match="Could not connect"):
        open_store("s3://bucket").put(make_folder(tmp_path / "folder"), "model")


@pytest.mark.parametrize(
    ("kind", "key", "expected"),
    [
        ("AES256", "", {"ServerSideEncryption": "AES256"}),
        ("aws:kms", "", {"ServerSideEncryption": "aws:kms"}),
        ("aws:kms", "alias/longhaul", {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/longhaul"}),
    ],
)
def test_everything_is_encrypted_as_the_environment_says(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, key: str, expected: dict[str, str]
) -> None:
    monkeypatch.setenv("LONGHAUL_S3_SSE", kind)
    monkeypatch.setenv("LONGHAUL_S3_SSE_KMS_KEY_ID", key)
    monkeypatch.setattr("infra.store.s3_upload.PART", 5 << 20)
    folder = make_folder(tmp_path / "folder", small="x", large="x" * (6 << 20))
    store = open_store(place, tmp_path / "cache")
    ref = store.put(folder, "model")
    store.write_record("a", {})
    assert isinstance(store.backend, S3Backend)
    for path in store.backend.sizes(""):
        head = dict(store.backend.client.head_object(Bucket=BUCKET, Key=store.backend.key(path)))
        assert {name: head.get(name) for name in expected} == expected, path
    assert contents(store.fetch(ref)) == contents(folder)


def test_what_was_stored_without_encryption_is_sent_again_with_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "folder", small="x")
    open_store(place).put(folder, "model")
    monkeypatch.setenv("LONGHAUL_S3_SSE", "aws:kms")
    store = open_store(place)
    store.put(folder, "model")
    assert isinstance(store.backend, S3Backend)
    keys = [store.backend.key(path) for path in store.backend.sizes("") if path != "store.json"]
    heads = [store.backend.client.head_object(Bucket=BUCKET, Key=key) for key in keys]
    assert [head["ServerSideEncryption"] for head in heads] == ["aws:kms", "aws:kms"]


@pytest.mark.parametrize(
    ("kind", "key", "message"),
    [
        ("aes256", "", "LONGHAUL_S3_SSE=aes256: expected one of AES256, aws:kms, aws:kms:dsse"),
        (
            "",
            "alias/longhaul",
            "LONGHAUL_S3_SSE_KMS_KEY_ID=alias/longhaul needs LONGHAUL_S3_SSE=aws:kms, which is not set",
        ),
        ("AES256", "alias/longhaul", "needs LONGHAUL_S3_SSE=aws:kms, which is AES256"),
    ],
)
def test_an_encryption_that_cannot_be_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, kind: str, key: str, message: str
) -> None:
    monkeypatch.setenv("LONGHAUL_S3_SSE", kind)
    monkeypatch.setenv("LONGHAUL_S3_SSE_KMS_KEY_ID", key)
    with pytest.raises(StoreError, match=message):
        open_store("s3://bucket")


def test_a_download_takes_only_what_is_wanted_and_says_what_it_left(place: str, tmp_path: Path) -> None:
    store = open_store(place)
    address = store.put(make_folder(tmp_path / "folder", a="1", b="2", **{"c/d": "3"}), "model").address
    assert download_folder(address + "/", tmp_path / "out", lambda path: path != "b") == ["b"]
    assert contents(tmp_path / "out") == {"a": b"1", "c/d": b"3"}
    with pytest.raises(StoreError, match="no files below"):
        download_folder(f"{place}/absent", tmp_path / "out", lambda path: True)


def test_a_key_cannot_be_downloaded_to_outside_the_folder(place: str, tmp_path: Path) -> None:
    boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{split_address(place)[1]}/../../evil", Body=b"")
    with pytest.raises(StoreError, match="outside the folder"):
        download_folder(place, tmp_path / "out", lambda path: True)


def test_addresses_of_another_form_are_refused() -> None:
    assert split_address("s3://bucket/a/b/") == ("bucket", "a/b")
    for address in ("s3://", "s3:///a", "/a"):
        with pytest.raises(StoreError, match="not an S3 address"):
            split_address(address)
