"""The store's records and its format."""

import json
import os
from pathlib import Path

import pytest

from infra.store.open import open_store
from infra.store.store import Corrupted, Ref, Store, StoreError
from tests.infra.store.store_common import contents, make_folder, s3_place


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(tmp_path / "store", tmp_path / "cache")
    request.getfixturevalue("s3")
    return open_store(s3_place(request.node.nodeid), tmp_path / "cache")


def test_the_store_says_its_format_from_the_first_write_on(store: Store, tmp_path: Path) -> None:
    assert store.list_records() == []
    assert store.backend.read("store.json") is None, "reading writes nothing"
    store.write_record("a", {})
    assert json.loads(store.backend.read("store.json") or b"") == {"format": 1}


def test_a_store_of_a_newer_version_is_refused_with_its_format(store: Store, tmp_path: Path) -> None:
    store.backend.write_text("store.json", '{"format": 7}')
    folder = make_folder(tmp_path / "folder")
    ref = Ref(kind="model", digest="0" * 64, address="", files=1, size=0)
    for use in (
        lambda: store.put(folder, "model"),
        lambda: store.fetch(ref),
        lambda: store.verify(ref),
        lambda: store.exists(ref),
        lambda: store.write_record("a", {}),
        lambda: store.read_records("a"),
        lambda: store.list_records(),
    ):
        with pytest.raises(StoreError, match="format 7, and this version of Longhaul knows formats up to 1: upgrade"):
            use()
    assert list(store.backend.sizes("")) == ["store.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"format": "x"}', '{"format": 0}', '{"format": 1, "more": 2}'])
def test_a_format_that_cannot_be_read_is_refused_with_the_files_name(tmp_path: Path, text: str) -> None:
    store = open_store(tmp_path / "store")
    store.backend.write_text("store.json", text)
    with pytest.raises(Corrupted, match=r"store\.json is not like"):
        store.list_records()


def test_a_store_from_before_formats_is_read_and_marked(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    ref = open_store(tmp_path / "store").put(folder, "model")
    (tmp_path / "store" / "store.json").unlink()
    old = open_store(tmp_path / "store")
    assert contents(old.fetch(ref)) == contents(folder)
    old.write_record("a", {})
    assert (tmp_path / "store" / "store.json").exists()


def test_records_come_back_oldest_first_and_are_never_replaced(store: Store) -> None:
    for number, name in enumerate(["stages/rl", "stages/sft", "stages/rl", "stages/rl2", "other"]):
        store.write_record(name, {"number": number, "text": "ü"})
    assert [record["number"] for record in store.read_records("stages/rl")] == [0, 2]
    assert [record["number"] for record in store.read_records("stages")] == [0, 1, 2, 3]
    assert store.read_records("absent") == []


def test_records_of_one_name_keep_their_order_where_the_clock_is_set_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, now in enumerate([5_000, 1_000, 1_000, 6_000]):
        monkeypatch.setattr("time.time_ns", lambda now=now: now)
        store.write_record("runs/one", {"number": number})
        store.write_record("runs/two", {"number": 10 + number})
    assert [record["number"] for record in store.read_records("runs/one")] == [0, 1, 2, 3]
    assert [record["number"] for record in store.read_records("runs/two")] == [10, 11, 12, 13]


def test_records_are_listed_by_keys_that_lead_to_them(store: Store) -> None:
    for number, name in enumerate(["stages/rl", "runs/a", "stages/sft"]):
        store.write_record(name, {"number": number})
    keys = store.list_records()
    assert [key.rpartition("/")[0] for key in keys] == ["stages/rl", "runs/a", "stages/sft"]
    assert store.list_records("stages") == [keys[0], keys[2]]
    assert [record["number"] for record in store.read_many(keys[::-1])] == [2, 1, 0]
    assert store.read_record(keys[1]) == {"number": 1}
    assert store.read_many([]) == []


def test_a_record_that_is_missing_or_no_object_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match=r"records/runs/x\.json is missing"):
        store.read_record("runs/x.json")
    with pytest.raises(ValueError, match="record name"):
        store.read_record("../store.json")
    for text in ("{", "[" * 100_000, "[1]"):
        store.backend.write_text("records/runs/x.json", text)
        with pytest.raises(Corrupted, match=r"records/runs/x\.json is not"):
            store.read_many(["runs/x.json"])


def test_records_refuse_names_that_leave_their_folder_and_values_that_are_not_json(store: Store) -> None:
    for name in ("../x", "a/../b", "", "/a", "a//b", ".hidden", "a b"):
        with pytest.raises(ValueError, match="record name"):
            store.write_record(name, {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_record("a", {"loss": float("nan")})
    assert store.read_records("a") == []


def test_a_record_that_was_edited_does_not_have_the_sha256_in_its_name(store: Store) -> None:
    store.write_record("stages/rl", {"outputs": {"model": "a"}})
    (key,) = store.list_records()
    store.backend.write_text(f"records/{key}", '{"outputs": {}}')
    with pytest.raises(Corrupted, match="is not what was written: its SHA-256 is not the one in its name"):
        store.read_record(key)
    with pytest.raises(Corrupted):
        store.read_records("stages")


def test_a_record_from_before_names_held_a_sha256_is_read(store: Store) -> None:
    store.backend.write_text(f"records/stages/rl/{1:020d}-{'ab' * 16}.json", '{"number": 1}')
    assert store.read_records("stages/rl") == [{"number": 1}]


def test_what_cannot_be_read_among_records_is_named_and_the_others_are_read(store: Store) -> None:
    for number in range(3):
        store.write_record("stages/rl", {"number": number})
    cut = store.list_records()[1]
    store.backend.write_text(f"records/{cut}", '{"num')
    store.backend.write_text("records/stages/rl/x y.json", "{}")
    valid, problems = store.read_valid(store.list_records("stages"))
    assert [record["number"] for record in valid.values()] == [0, 2]
    assert problems.keys() == {cut, "stages/rl/x y.json"}


def test_a_pipe_among_records_does_not_hold_readers_up(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    store.write_record("runs/a", {"number": 1})
    os.mkfifo(tmp_path / "store" / "records" / "runs" / "a" / "pipe.json")
    valid, problems = store.read_valid(store.list_records())
    assert len(valid) == len(problems) == 1
