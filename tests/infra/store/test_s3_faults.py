"""The store on an S3 server (moto's) behind a network that fails: retried or refused, never stored wrong, resumed."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from infra.store import s3_download
from infra.store.backend import StoreError
from infra.store.open import open_store
from infra.store.store import Corrupted, Ref, Store
from tests.infra.store.faulty_proxy import Fault, FaultyProxy, Kind, Seen, faulty_proxy

BUCKET = "faults"
MIB = 1 << 20
BIG = 12 * MIB + 12345


@pytest.fixture
def proxy(s3: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0)
    for module in ("infra.store.s3_upload", "infra.store.s3_download"):
        monkeypatch.setattr(f"{module}.again", lambda attempt: None)
    monkeypatch.setattr("infra.store.s3_upload.PART", 5 * MIB)
    monkeypatch.setattr("infra.store.s3_download.PART", 4 * MIB)
    client = boto3.client("s3")
    if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET)
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL_S3"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        yield proxy


@pytest.fixture
def store(proxy: FaultyProxy, request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(
        f"s3://{BUCKET}/{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]}", tmp_path / "cache"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "big").write_bytes(os.urandom(BIG))
    for number in range(3):
        (folder / f"small{number}").write_bytes(os.urandom(1000 + number))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def uploads(store: Store) -> list[str]:
    return [leftover.name for leftover in store.backend.leftovers()]


EVERYWHERE = [
    ("PUT", "/content/small1"),
    ("PUT", "partNumber=2"),
    ("POST", "uploads"),
    ("POST", "uploadId="),
    ("PUT", "manifest.json"),
    ("GET", "manifest.json"),
    ("GET", "list-type=2"),
    ("GET", "/content/small1"),
    ("GET", "/content/big"),
]


@pytest.mark.parametrize("kind", ["500", "503", "drop request", "drop response", "slow"])
def test_what_fails_for_a_time_is_done_again_wherever_it_fails(
    kind: Kind, proxy: FaultyProxy, store: Store, folder: Path
) -> None:
    proxy.faults = [Fault(kind, method, path, times=2) for method, path in EVERYWHERE]
    ref = store.put(folder, "model")
    assert contents(store.fetch(ref)) == contents(folder)
    store.verify(ref)
    assert all(fault.times < 2 for fault in proxy.faults), "a fault that never came tests nothing"
    # An upload whose beginning was not heard of stays: gc deletes it.
    assert kind == "drop response" or uploads(store) == []


def test_a_server_that_stalls_is_asked_again(
    proxy: FaultyProxy, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = store.put(folder, "model")
    monkeypatch.setattr("infra.store.s3_client.READ_TIMEOUT", 0.5)
    proxy.faults = [Fault("stall", "GET", "/content/big", times=1), Fault("stall", "GET", "/content/small1", times=1)]
    again = open_store(store.backend.address, store.cache)
    assert contents(again.fetch(ref)) == contents(folder)


@pytest.mark.parametrize("path", ["/content/small1", "partNumber=2", "manifest.json"])
def test_a_byte_that_changes_on_the_way_in_is_refused_and_sent_again(
    path: str, proxy: FaultyProxy, store: Store, folder: Path
) -> None:
    proxy.faults = [Fault("flip request", "PUT", path, times=2)]
    ref = store.put(folder, "model")
    assert [seen.status for seen in proxy.sent("PUT", path)] == [400, 400, 200]
    assert contents(store.fetch(ref)) == contents(folder)


@pytest.mark.parametrize("path", ["/content/small1", "partNumber=2"])
def test_a_server_without_checksums_is_compared_by_what_it_answers(
    path: str, proxy: FaultyProxy, store: Store, folder: Path
) -> None:
    proxy.checks_checksums = False
    proxy.faults = [Fault("flip request", "PUT", path, times=2)]
    ref = store.put(folder, "model")
    assert [seen.status for seen in proxy.sent("PUT", path)] == [200, 200, 200]
    assert contents(store.fetch(ref)) == contents(folder)
    assert store.put(folder, "model") == ref


@pytest.mark.parametrize("path", ["/content/small1", "partNumber=2"])
def test_bytes_that_always_change_on_the_way_in_are_never_stored(
    path: str, proxy: FaultyProxy, store: Store, folder: Path
) -> None:
    proxy.faults = [Fault("flip request", "PUT", path)]
    with pytest.raises(StoreError, match="other bytes than were sent"):
        store.put(folder, "model")
    assert not [name for name in store.backend.sizes("objects") if name.endswith("manifest.json")]
    assert uploads(store) == []
    proxy.faults = []
    ref = store.put(folder, "model")
    assert contents(store.fetch(ref)) == contents(folder)


@pytest.mark.parametrize("path", ["/content/small1", "/content/big", "manifest.json"])
def test_a_byte_that_changes_on_the_way_out_is_seen(path: str, proxy: FaultyProxy, store: Store, folder: Path) -> None:
    ref = store.put(folder, "model")
    proxy.faults = [Fault("flip response", "GET", path, times=1)]
    assert contents(store.fetch(ref)) == contents(folder)


@pytest.mark.parametrize("path", ["/content/small1", "/content/big"])
def test_bytes_that_always_change_on_the_way_out_never_enter_the_cache(
    path: str, proxy: FaultyProxy, store: Store, folder: Path
) -> None:
    ref = store.put(folder, "model")
    proxy.faults = [Fault("flip response", "GET", path)]
    with pytest.raises(Corrupted, match=path.removeprefix("/content/")):
        store.fetch(ref)
    proxy.faults = []
    before = len(proxy.seen)
    assert contents(store.fetch(ref)) == contents(folder)
    fetched = {seen.path.rpartition("/")[2] for seen in proxy.seen[before:] if "/content/" in seen.path}
    assert fetched == {path.removeprefix("/content/")}, "what was whole is not downloaded again"


def test_a_record_that_changes_on_the_way_out_is_read_again(proxy: FaultyProxy, store: Store) -> None:
    store.write_record("runs/one", {"number": 1})
    proxy.faults = [Fault("flip response", "GET", "records/runs/one/", times=2)]
    assert store.read_records("runs/one") == [{"number": 1}]
    assert proxy.faults[0].times == 0


@pytest.fixture
def without_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a server that sends none: nothing but the digests of the store's own says what is right."""
    read_body = s3_download.body
    left_out = lambda client, **request: read_body(client, **{**request, "ChecksumMode": "DISABLED"})  # noqa: E731
    monkeypatch.setattr(
        s3_download, "whole_object", lambda client, bucket, key: left_out(client, Bucket=bucket, Key=key)
    )
    monkeypatch.setattr("infra.store.s3.whole_object", s3_download.whole_object)


@pytest.mark.parametrize("path", ["/content/small1", "/content/big", "manifest.json"])
@pytest.mark.usefixtures("without_checksums")
def test_verify_names_no_file_for_a_byte_that_changed_once_on_the_way_out(
    path: str, proxy: FaultyProxy, store: Store, folder: Path
) -> None:
    ref = store.put(folder, "model")
    proxy.faults = [Fault("flip response", "GET", path, times=1)]
    store.verify(ref)
    assert proxy.faults[0].times == 0
    proxy.faults = [Fault("flip response", "GET", path)]
    with pytest.raises(Corrupted):
        store.verify(ref)


@pytest.mark.usefixtures("without_checksums")
def test_a_record_is_read_again_also_from_a_server_that_sends_no_checksums(proxy: FaultyProxy, store: Store) -> None:
    for number in range(3):
        store.write_record("runs/one", {"number": number})
    fault = Fault("flip response", "GET", "records/runs/one/", times=1)
    for read in (
        lambda: store.read_records("runs/one"),
        lambda: list(store.read_valid(store.list_records("runs/one"))[0].values()),
    ):
        proxy.faults = [replace(fault)]
        assert read() == [{"number": number} for number in range(3)]
        assert proxy.faults[0].times == 0


def test_a_put_that_broke_off_resumes_with_what_the_server_lacks(
    proxy: FaultyProxy, store: Store, folder: Path
) -> None:
    proxy.faults = [Fault("500", "PUT", "partNumber=3")]
    with pytest.raises(StoreError, match="InternalError"):
        store.put(folder, "model")
    assert len(uploads(store)) == 1
    proxy.faults, proxy.seen = [], []
    ref = store.put(folder, "model")
    sent = [seen for seen in proxy.sent("PUT", "/content/")]
    assert ["partNumber=3" in seen.path for seen in sent] == [True], "only the part that was lacking is sent"
    assert contents(store.fetch(ref)) == contents(folder)
    assert uploads(store) == []


def test_a_fetch_that_broke_off_resumes_with_what_it_lacks(proxy: FaultyProxy, store: Store, folder: Path) -> None:
    ref = store.put(folder, "model")

    proxy.faults = [Fault("drop response", "GET", f"bytes={8 * MIB}-")]
    with pytest.raises(StoreError, match="content/big"):
        store.fetch(ref)
    before, proxy.faults = len(proxy.seen), []
    assert contents(store.fetch(ref)) == contents(folder)
    content = [(seen.path, seen.range) for seen in proxy.seen if seen.method == "GET" and "/content/" in seen.path]
    first = content[: -len([seen for seen in proxy.seen[before:] if "/content/" in seen.path])]
    failed = [one for one in first if one[1] == f"bytes={8 * MIB}-{12 * MIB - 1}"]
    again = set(first) & set(content[len(first) :])
    assert again == set(failed), "what had arrived is not fetched again"


def test_an_answer_that_is_lost_after_the_upload_was_completed_is_not_a_failure(
    proxy: FaultyProxy, store: Store, folder: Path
) -> None:
    proxy.faults = [Fault("drop response", "POST", "uploadId=", times=1)]
    ref = store.put(folder, "model")
    assert contents(store.fetch(ref)) == contents(folder)


@pytest.mark.parametrize("name", ["small1", "big"])
def test_a_source_that_changes_between_reading_and_sending_never_appears(
    name: str, proxy: FaultyProxy, store: Store, folder: Path
) -> None:
    def change(seen: Seen) -> None:
        if "list-type=2" in seen.path:
            with (folder / name).open("r+b") as file:
                file.write(b"changed")

    proxy.before = change
    with pytest.raises(StoreError, match=f"{name} changed while"):
        store.put(folder, "model")
    assert not [path for path in store.backend.sizes("objects") if path.endswith((name, "manifest.json"))]
    assert uploads(store) == []


def test_a_dropped_upload_of_the_same_file_is_begun_from_scratch(
    proxy: FaultyProxy, store: Store, folder: Path
) -> None:
    """As when another writer of the same bytes completes or drops the upload that this one has joined."""
    proxy.faults = [Fault("500", "PUT", "partNumber=3")]
    with pytest.raises(StoreError, match="InternalError"):
        store.put(folder, "model")
    proxy.faults = []

    def drop(seen: Seen) -> None:
        if "partNumber=3" in seen.path:
            proxy.before = None
            store.backend.drop(store.backend.leftovers())

    proxy.before = drop
    ref: Ref = store.put(folder, "model")
    assert contents(store.fetch(ref)) == contents(folder)
