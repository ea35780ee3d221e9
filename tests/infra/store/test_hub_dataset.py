"""Data sets on the hub: the files of a split, from a real HTTP server with the hub's protocol."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.store.backend import StoreError
from infra.store.hub_dataset import files_of_split
from infra.store.sources import bring, resolve_split
from tests.hub_server import Hub, serve

COMMIT, OLD = "a" * 40, "b" * 40
CARD = """---
license: mit
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train-*}
  - {split: test, path: ["main/test-*", "main/more.jsonl"]}
- config_name: socratic
  data_files: {train: socratic/**/*.parquet}
---
# A data set
"""
PATHS = ("main/train-00000-of-00001.parquet", "main/test-1.jsonl", "main/more.jsonl", "socratic/a.parquet")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for path in PATHS:
        (tmp_path / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / path).write_text(path)
    (tmp_path / "files" / "README.md").write_text(CARD)
    hub = Hub(tmp_path / "files", {"main": COMMIT, "v1": OLD, COMMIT: COMMIT, OLD: OLD}, "datasets")
    with serve(hub, tmp_path / "cache", monkeypatch):
        yield hub


def test_a_split_is_resolved_to_a_commit_and_only_its_files_are_downloaded(hub: Hub, tmp_path: Path) -> None:
    resolved = resolve_split("owner/base", "main", "test")
    assert (resolved.address, resolved.digest) == (f"hf://datasets/owner/base@{COMMIT}", COMMIT)
    assert resolved.files == ("main/more.jsonl", "main/test-1.jsonl")
    assert [path for path in hub.requests if "/resolve/" in path and "README" not in path] == []
    source = bring(resolved, tmp_path / "brought")
    assert source.files == resolved.files and source.address == resolved.address
    assert (source.path / "main/more.jsonl").read_text() == "main/more.jsonl"
    assert not (source.path / "socratic").exists() and not (source.path / PATHS[0]).exists()


def test_a_revision_is_the_names(hub: Hub) -> None:
    assert resolve_split("owner/base@v1", "main", "train").address.endswith(OLD)


def test_a_split_that_was_read_before_needs_no_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bring(resolve_split("owner/base", "main", "train"), tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert bring(resolve_split("owner/base", "main", "train"), tmp_path) == before


@pytest.mark.parametrize(
    ("name", "config", "split", "reason"),
    [
        ("owner/bass", None, None, "data set on the hub owner/bass does not exist, or is private: correct the name"),
        (
            "owner/base@v2",
            None,
            None,
            "data set on the hub owner/base@v2: owner/base has no such branch, tag or",
        ),
        ("owner/base", None, "train", "data set owner/base has several configurations, main, socratic: give `config`"),
        ("owner/base", "mian", "train", "data set owner/base has no configuration 'mian': it has main, socratic"),
        ("owner/base", "main", None, "data set owner/base has several splits, train, test: give `split`"),
        ("owner/base", "main", "tset", "data set owner/base has no split 'tset': it has train, test"),
    ],
)
def test_what_the_hub_does_not_have_is_named_with_what_it_has(
    hub: Hub, name: str, config: str | None, split: str | None, reason: str
) -> None:
    with pytest.raises(StoreError) as error:
        resolve_split(name, config, split)
    assert str(error.value).startswith(reason) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("paths", "config", "split", "expected"),
    [
        (["data/train-0-of-2.parquet", "data/train-1-of-2.parquet", "data/test-0.parquet"], None, "train", [0, 1]),
        (["train.jsonl", "test.jsonl"], None, "test", [1]),
        (["all.jsonl.zst", "README.md"], None, None, [0]),
        (["train.jsonl"], "default", "train", [0]),
        (["en/train/0000.parquet", "en/test/0000.parquet", "de/train/0000.parquet"], "de", None, [2]),
        (["main/partial-train/0000.parquet", ".hidden.json"], "main", "train", [0]),
    ],
)
def test_without_a_card_splits_are_found_by_the_words_of_paths(
    paths: list[str], config: str | None, split: str | None, expected: list[int]
) -> None:
    assert list(files_of_split("a/b", paths, None, config, split)) == [paths[place] for place in expected]


def test_a_cards_default_configuration_is_taken_where_none_is_named(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    entries = "- {config_name: x, data_files: a.jsonl}\n- {config_name: y, data_files: b.jsonl, default: true}"
    card.write_text(f"---\nconfigs:\n{entries}\n---\n")
    assert files_of_split("a/b", ["a.jsonl", "b.jsonl"], card, None, None) == ("b.jsonl",)
    card.write_text("---\nconfigs: [\n---\n")
    assert files_of_split("a/b", ["a.jsonl"], card, None, "train") == ("a.jsonl",)


def test_files_of_a_kind_that_is_not_read_are_named_with_the_hubs_own_parquet(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("---\nconfigs:\n- {config_name: x, data_files: '*.csv'}\n---\n")
    with pytest.raises(StoreError, match=r"not of a kind that is read \(a.csv\): .* a/b@refs/convert/parquet"):
        files_of_split("a/b", ["a.csv"], card, None, None)
    with pytest.raises(StoreError, match=r"data set a/b has no file that can be read: a\.py"):
        files_of_split("a/b", ["a.py"], None, None, None)
