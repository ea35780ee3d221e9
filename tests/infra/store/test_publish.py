"""Models that are published to a folder, to S3 and to a hub: all or nothing, resumed, and over nothing else."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.store import publish as module
from infra.store.backend import StoreError
from infra.store.publication import MARKER, Publication
from infra.store.publish import hub_name, publish
from infra.store.s3 import S3Backend
from tests.hub_server import serve
from tests.hub_uploads import UploadHub

NAME = "owner/model"


def publication(folder: Path, model: str = "a", card: str = "A card.") -> Publication:
    folder.mkdir(exist_ok=True)
    texts = {"config.json": "{}", "model.safetensors": f"weights of {model}" * 1000, "README.md": card}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return Publication({name: folder / name for name in texts}, json.dumps({"model": model * 64}) + "\n")


@pytest.fixture
def model(tmp_path: Path) -> Publication:
    return publication(tmp_path / "source")


@pytest.fixture
def other(tmp_path: Path) -> Publication:
    return publication(tmp_path / "other source", "b")


def texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def expected(model: Publication) -> dict[str, str]:
    return {**{name: path.read_text() for name, path in model.files.items()}, MARKER: model.marker}


def test_a_folder_gets_all_files_once_and_again_nothing(model: Publication, tmp_path: Path) -> None:
    target = tmp_path / "out" / "mine"
    assert publish(model, str(target)).unchanged is False
    assert texts(target) == expected(model) and not (target / "config.json").is_symlink()
    assert publish(model, str(target)).unchanged is True
    assert [path.name for path in target.parent.iterdir()] == ["mine"], "nothing is left beside it"


def test_a_folder_that_holds_something_else_is_refused_unless_it_is_to_be_replaced(
    model: Publication, other: Publication, tmp_path: Path
) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match=r"holds something else \(thesis.txt\): .* --replace"):
        publish(model, str(target))
    assert texts(target) == {"thesis.txt": "years of work"}
    publish(model, str(target), replace=True)
    with pytest.raises(StoreError, match="holds another model"):
        publish(other, str(target))
    publish(other, str(target), replace=True)
    assert texts(target) == expected(other)


def test_a_folder_that_holds_the_model_or_the_person_is_not_replaced(
    model: Publication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    for destination, what in ((".", "the folder you are in"), ("~/..", "your home"), ("../source", "the model itself")):
        with pytest.raises(StoreError, match=rf"is or holds {what}.*name a folder of its own"):
            publish(model, destination, replace=True)
    assert texts(tmp_path / "source") == {name: path.read_text() for name, path in model.files.items()}


def test_a_link_stays_one_and_the_folder_behind_it_is_replaced(model: Publication, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    publish(model, str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink() and texts(tmp_path / "real") == expected(model)


def test_the_same_model_with_another_card_is_the_same_model(model: Publication, tmp_path: Path) -> None:
    publish(model, str(tmp_path / "mine"))
    newer = publication(tmp_path / "newer", card="A better card.")
    assert publish(newer, str(tmp_path / "mine")).unchanged is False
    assert (tmp_path / "mine" / "README.md").read_text() == "A better card."


def test_a_publish_that_stops_half_way_leaves_what_was_there_and_resumes(
    model: Publication, other: Publication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "mine"
    publish(other, str(target))
    copied: list[str] = []
    real = module.shutil.copyfile

    def copy(source: Path, destination: Path) -> None:
        if len(copied) == 2:
            raise OSError(28, "No space left on device", str(destination))
        copied.append(destination.name)
        real(source, destination)

    monkeypatch.setattr(module.shutil, "copyfile", copy)
    with pytest.raises(StoreError, match="No space left"):
        publish(model, str(target), replace=True)
    assert texts(target) == expected(other)

    def record(source: Path, destination: Path) -> None:
        copied.append(destination.name)
        real(source, destination)

    monkeypatch.setattr(module.shutil, "copyfile", record)
    publish(model, str(target), replace=True)
    assert texts(target) == expected(model)
    assert sorted(copied) == sorted(model.files), "what was copied before was not copied again"


def test_a_publish_killed_between_its_two_renames_has_lost_nothing(
    model: Publication, other: Publication, tmp_path: Path
) -> None:
    publish(other, str(tmp_path / "mine"))
    (tmp_path / "mine").rename(tmp_path / ".mine.replaced")
    with pytest.raises(StoreError, match="holds another model"):
        publish(model, str(tmp_path / "mine"))
    assert texts(tmp_path / "mine") == expected(other)


@pytest.fixture
def bucket(s3: None) -> str:
    import boto3

    name = f"publish-{os.urandom(4).hex()}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


def objects(address: str) -> dict[str, str]:
    backend = S3Backend(address)
    return {path: (backend.read(path) or b"").decode() for path in backend.sizes("")}


def test_s3_gets_the_marker_last_and_nothing_else_is_overwritten(
    model: Publication, other: Publication, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"{bucket}/models/mine"

    def broken(self: S3Backend, key: str, text: str) -> None:
        raise StoreError(f"{key}: the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(S3Backend, "write_text", broken)
        with pytest.raises(StoreError, match="the connection broke"):
            publish(model, target)
    assert MARKER not in objects(target), "it does not look whole"
    assert publish(model, target).unchanged is False
    assert objects(target) == expected(model)
    assert publish(model, target).unchanged is True
    with pytest.raises(StoreError, match="holds another model"):
        publish(other, target)
    assert objects(target) == expected(model)
    publish(other, target, replace=True)
    assert objects(target) == expected(other)
    with pytest.raises(StoreError, match=r"holds something else \(mine/"):
        publish(model, f"{bucket}/models")
    with pytest.raises(StoreError, match="is a whole bucket"):
        publish(model, bucket)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    hub = UploadHub()
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    with serve(hub, tmp_path / "cache", monkeypatch):
        yield hub


def committed(hub: UploadHub) -> dict[str, str]:
    return {path: data.decode() for path, data in hub.head(NAME).items() if path != ".gitattributes"}


def test_the_hub_gets_a_private_repository_and_one_commit(hub: UploadHub, model: Publication) -> None:
    published = publish(model, NAME)
    assert committed(hub) == expected(model) and hub.private[NAME] is True
    assert len(hub.repositories[NAME]) == 2 and published.address.startswith(f"hf://{NAME}@")
    publish(model, f"hf://{NAME}")
    assert committed(hub) == expected(model)


def test_a_repository_with_something_else_is_refused_unless_it_is_to_be_replaced(
    hub: UploadHub, model: Publication, other: Publication
) -> None:
    hub.repositories[NAME] = [{".gitattributes": b"", "paper.pdf": b"mine"}]
    with pytest.raises(StoreError, match=r"holds something else \(paper.pdf\)"):
        publish(model, NAME)
    publish(model, NAME, replace=True)
    assert committed(hub) == expected(model)
    with pytest.raises(StoreError, match="holds another model"):
        publish(other, NAME)
    publish(other, NAME, replace=True)
    assert committed(hub) == expected(other) and len(hub.repositories[NAME]) == 3


def test_a_commit_that_fails_leaves_the_repository_and_large_files_are_not_sent_again(
    hub: UploadHub, model: Publication
) -> None:
    hub.refuse = "/commit/"
    with pytest.raises(StoreError, match="hub repository owner/model"):
        publish(model, NAME)
    assert committed(hub) == {}
    hub.refuse, hub.requests = "", []
    publish(model, NAME)
    assert committed(hub) == expected(model)
    assert not any("/large/" in request for request in hub.requests)


def test_a_commit_of_somebody_else_meanwhile_is_not_overwritten(hub: UploadHub, model: Publication) -> None:
    publish(model, NAME)
    hub.meanwhile = {"notes.txt": b"theirs"}
    with pytest.raises(StoreError, match="somebody else committed meanwhile; publish again"):
        publish(Publication({**model.files, "more.txt": model.files["config.json"]}, model.marker), NAME)
    assert committed(hub)["notes.txt"] == "theirs"


@pytest.mark.parametrize(
    ("destination", "name"),
    [
        ("owner/model", "owner/model"),
        ("hf://owner/model", "owner/model"),
        ("./owner/model", None),
        ("/tmp/model", None),
        ("model", None),
        ("out/models/mine", None),
        ("~/model", None),
    ],
)
def test_a_destination_is_a_folder_or_a_repository_by_how_it_is_written(destination: str, name: str | None) -> None:
    assert hub_name(destination) == name


def test_what_may_be_either_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match=r"write \./out/mine or hf://out/mine"):
        hub_name("out/mine")
    with pytest.raises(StoreError, match="expected a folder, s3://"):
        hub_name("gs://bucket/mine")
