"""Digests of data at addresses: another one once what lies there changes."""

import json
import os
from pathlib import Path

import pytest

from infra.store.source_digest import digest_of_address
from infra.store.sources import resolve_source
from infra.store.store import StoreError


def test_data_at_local_addresses_have_another_digest_once_they_change(tmp_path: Path) -> None:
    one, two, cache = tmp_path / "one.jsonl", tmp_path / "folder", tmp_path / "cache.json"
    one.write_text("1")
    two.mkdir()
    (two / "a").write_text("a")
    before = [digest_of_address(str(each), cache) for each in (one, two)]
    assert [digest_of_address(str(each), cache) for each in (one, two)] == before
    (two / "a").write_text("b")
    after = [digest_of_address(str(each), cache) for each in (one, two)]
    assert after[0] == before[0] and after[1] != before[1]
    (two / "README.md").write_text("beside")
    assert digest_of_address(str(two), cache) != after[1]
    assert digest_of_address(str(two), cache, lambda path: path == "a") == after[1], "a file that does not belong"
    with pytest.raises(StoreError, match="missing cannot be read: No such file"):
        digest_of_address(str(tmp_path / "missing"), cache)


def test_a_pipe_a_device_and_a_folder_in_place_of_a_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for endless in (tmp_path / "pipe.jsonl", Path("/dev/zero")):
        with pytest.raises(StoreError, match="which has no end"):
            resolve_source("file", str(endless), tmp_path / "cache.json")
    with pytest.raises(StoreError, match="is a folder: give a file"):
        resolve_source("file", str(tmp_path), tmp_path / "cache.json")


def test_a_cache_of_digests_that_holds_something_else_is_not_used(tmp_path: Path) -> None:
    file, cache = tmp_path / "file", tmp_path / "cache.json"
    file.write_text("1")
    expected = digest_of_address(str(file), cache)
    remembered = json.loads(cache.read_text())
    for other in ([1], {seen: [1] for seen in remembered}):
        cache.write_text(json.dumps(other))
        assert digest_of_address(str(file), cache) == expected
    # Where it cannot be read and written either.
    for place in (tmp_path, Path("/proc/cache.json")):
        assert digest_of_address(str(file), place) == expected


@pytest.mark.usefixtures("s3")
def test_data_at_s3_addresses_have_another_digest_once_they_change(tmp_path: Path) -> None:
    from infra.store.s3_client import connect

    client, cache = connect(), tmp_path / "cache.json"
    client.create_bucket(Bucket="schedule-data")

    def put(key: str, body: bytes) -> None:
        client.put_object(Bucket="schedule-data", Key=key, Body=body)

    put("set/train.jsonl", b"1")
    put("set/train.jsonl.bak", b"1")
    addresses = "s3://schedule-data/set", "s3://schedule-data/set/train.jsonl"
    before = [digest_of_address(each, cache) for each in addresses]
    assert [digest_of_address(each, cache) for each in addresses] == before
    put("set/train.jsonl.bak", b"2")
    beside = [digest_of_address(each, cache) for each in addresses]
    assert beside[0] != before[0] and beside[1] == before[1], "what lies beside an object is not it"
    put("set/train.jsonl", b"3")
    assert digest_of_address(addresses[1], cache) != before[1]
    for nothing in ("s3://schedule-data/no", "s3://schedule-data/set/train"):
        with pytest.raises(StoreError, match="there is nothing at this address"):
            digest_of_address(nothing, cache)
