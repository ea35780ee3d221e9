"""Import from a real S3 server (moto) and a real HTTP server with the protocol of the hub."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from infra.store.store import Manifest, StoreError
from steps.checkpoint_refused import CheckpointRefused
from steps.configs.import_checkpoint import ImportConfig
from tests.hub_server import Hub, serve
from tests.steps.import_checkpoint.small_checkpoint import OTHER_FILES, import_at, names, only_a_pickle

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_checkpoint_on_s3_is_imported_without_its_pickles(base: Path, tmp_path: Path, s3: None) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="models")
    for path in base.iterdir():
        client.upload_file(str(path), "models", f"base/{path.name}")
    client.put_object(Bucket="models", Key="base/pytorch_model.bin", Body=b"")
    client.put_object(Bucket="models", Key="pickled/pytorch_model.bin", Body=b"")
    result = import_at(ImportConfig(checkpoint="s3://models/base"), tmp_path / "model")
    assert Manifest.of(tmp_path / "model") == Manifest.of(base)
    assert (result.source, result.left_out) == ("s3://models/base", ("pytorch_model.bin",))
    with pytest.raises(CheckpointRefused, match=r"pytorch_model\.bin: weights in a pickle"):
        import_at(ImportConfig(checkpoint="s3://models/pickled"), tmp_path / "other")
    with pytest.raises(StoreError, match="s3://models/absent"):
        import_at(ImportConfig(checkpoint="s3://models/absent"), tmp_path / "other")


@pytest.fixture
def hub(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub(base, {"main": COMMIT, "v1": COMMIT, COMMIT: COMMIT})
    with serve(hub, tmp_path / "hub cache", monkeypatch):
        yield hub


def test_a_checkpoint_on_the_hub_is_imported_at_a_commit_without_its_pickles(
    base: Path, tmp_path: Path, hub: Hub
) -> None:
    (base / "pytorch_model.bin").write_bytes(b"")
    (base / "modeling_evil.py").write_text("")
    result = import_at(ImportConfig(checkpoint="owner/base", revision="v1"), tmp_path / "model")
    assert result.source == f"hf://owner/base@{COMMIT}"
    assert result.left_out == ("modeling_evil.py", "pytorch_model.bin")
    assert {path.rsplit("/", 1)[1] for path in hub.requests if "/resolve/" in path} == OTHER_FILES | {
        "model.safetensors"
    }
    assert names(tmp_path / "model") == OTHER_FILES | {"model.safetensors"}
    assert not any(path.is_symlink() for path in (tmp_path / "model").iterdir())


def test_a_repository_that_the_hub_does_not_have_is_named(tmp_path: Path, hub: Hub) -> None:
    for settings in ({"checkpoint": "owner/absent"}, {"checkpoint": "owner/base", "revision": "v9"}):
        with pytest.raises(StoreError, match=f"hub repository {settings['checkpoint']}"):
            import_at(ImportConfig(**settings), tmp_path / "model")


def test_a_hub_repository_with_pickles_alone_is_refused(base: Path, tmp_path: Path, hub: Hub) -> None:
    only_a_pickle(base)
    with pytest.raises(CheckpointRefused, match=r"pytorch_model\.bin: weights in a pickle"):
        import_at(ImportConfig(checkpoint="owner/base"), tmp_path / "model")
    assert not any("pytorch_model.bin" in path for path in hub.requests)
