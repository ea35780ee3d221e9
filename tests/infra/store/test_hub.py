"""Names on the hub resolved to commits, and commits downloaded, from a real HTTP server with the hub's protocol."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.store.backend import StoreError
from infra.store.hub import download_commit, download_repository, resolve_commit
from tests.hub_server import Hub, serve

OLD, NEW = "0" * 39 + "1", "0" * 39 + "2"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = tmp_path / "files"
    files.mkdir()
    for name in ("config.json", "model.safetensors", "[1] notes.txt"):
        (files / name).write_text(name)
    hub = Hub(files, {"main": NEW, "v1": OLD, OLD: OLD, NEW: NEW})
    with serve(hub, tmp_path / "cache", monkeypatch):
        yield hub


def _unreachable(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


def test_a_name_is_resolved_to_a_commit_without_downloading_anything(hub: Hub) -> None:
    assert resolve_commit("owner/base") == NEW
    assert resolve_commit("owner/base", "v1") == resolve_commit("owner/base@v1") == OLD
    assert resolve_commit("owner/base@v1", "v1") == OLD
    assert not any("/resolve/" in path or "/tree/" in path for path in hub.requests)


def test_a_branch_that_moved_is_resolved_to_its_new_commit(hub: Hub) -> None:
    assert resolve_commit("owner/base@main") == NEW
    hub.revisions["main"] = OLD
    assert resolve_commit("owner/base@main") == OLD


def test_a_whole_commit_needs_no_hub(hub: Hub) -> None:
    assert resolve_commit("owner/base", OLD) == resolve_commit(f"owner/base@{OLD}") == OLD
    assert hub.requests == []


@pytest.mark.parametrize("how", ["offline", "down"])
def test_a_hub_that_cannot_be_reached_leaves_the_commit_seen_last(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    assert resolve_commit("owner/base") == NEW
    _unreachable(monkeypatch, how)
    assert resolve_commit("owner/base") == NEW
    with pytest.raises(StoreError, match="hub repository owner/base@v1: the hub cannot be reached") as caught:
        resolve_commit("owner/base", "v1")
    assert "\n" not in str(caught.value)


def test_exactly_the_commit_is_downloaded_even_where_the_branch_moved_meanwhile(hub: Hub) -> None:
    commit = resolve_commit("owner/base")
    hub.revisions["main"] = OLD
    snapshot = download_commit("owner/base", commit, lambda path: path != "model.safetensors")
    assert snapshot.commit == NEW
    assert snapshot.left_out == ["model.safetensors"]
    assert {path.name for path in snapshot.folder.iterdir()} == {"config.json", "[1] notes.txt"}
    downloads = [path for path in hub.requests if "/resolve/" in path]
    assert downloads and all(f"/resolve/{NEW}/" in path for path in downloads)


@pytest.mark.parametrize("how", ["offline", "down"])
def test_a_commit_downloaded_before_is_had_without_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    before = download_repository("owner/base", None, lambda path: path.endswith("json"))
    _unreachable(monkeypatch, how)
    assert download_repository("owner/base", None, lambda path: path.endswith("json")) == before


def test_a_commit_whose_download_left_a_file_out_is_not_taken_for_whole_offline(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    download_commit("owner/base", NEW, lambda path: path.endswith("json"))
    _unreachable(monkeypatch, "offline")
    with pytest.raises(
        StoreError, match=f"hub repository owner/base@{NEW}: .*cannot find the requested files"
    ) as caught:
        download_commit("owner/base", NEW, lambda path: True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("owner/absent", None, "owner/absent does not exist, or is private: correct the name, or set HF_TOKEN"),
        ("owner/base", "v9", "owner/base@v9: owner/base has no such branch, tag or commit: correct the revision"),
        ("owner//base", None, "owner//base is not a repository's name"),
        ("owner/base@v1", "v2", "owner/base@v1: revision is 'v2'; give one"),
        ("owner/base@", None, "owner/base@: revision is None; give one"),
    ],
)
def test_what_cannot_be_resolved_is_named_in_one_line(hub: Hub, name: str, revision: str | None, message: str) -> None:
    with pytest.raises(StoreError) as caught:
        resolve_commit(name, revision)
    assert str(caught.value).startswith(f"hub repository {message}")
    assert "\n" not in str(caught.value)


def test_a_gated_repository_says_what_it_takes(hub: Hub) -> None:
    hub.gated = True
    with pytest.raises(StoreError, match="owner/base is gated: accept its terms on the hub, and set HF_TOKEN"):
        resolve_commit("owner/base")


def test_a_commit_that_the_hub_does_not_have_is_named(hub: Hub) -> None:
    missing = "f" * 40
    with pytest.raises(StoreError, match=f"owner/base@{missing}: owner/base has no such branch, tag or commit"):
        download_commit("owner/base", missing, lambda path: True)


def test_a_repository_without_a_wanted_file_is_refused(hub: Hub) -> None:
    with pytest.raises(StoreError, match=r"has no file of a checkpoint, only: \[1\] notes.txt, config.json"):
        download_commit("owner/base", NEW, lambda path: False)
