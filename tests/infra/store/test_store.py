"""The store, on a folder and on a real S3 server (moto's): what is put is what is fetched, or an error."""

import hashlib
import json
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.progress.events import Event
from infra.store.local import LocalBackend
from infra.store.open import open_store
from infra.store.s3 import download_folder
from infra.store.store import Corrupted, FileEntry, Manifest, Ref, Store, StoreError
from tests.infra.store.store_common import contents, damage, make_folder, s3_place


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(tmp_path / "store", tmp_path / "cache")
    request.getfixturevalue("s3")
    return open_store(s3_place(request.node.nodeid), tmp_path / "cache")


def test_a_fetched_folder_is_exactly_the_folder_that_was_put(store: Store, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    ref = store.put(folder, "model")
    assert (ref.kind, ref.files, ref.size) == ("model", 3, len("{}text\n"))
    fetched = store.fetch(ref)
    assert contents(fetched) == contents(folder)
    assert {stat.S_IMODE(path.stat().st_mode) for path in fetched.rglob("*") if path.is_file()} == {0o444}
    store.verify(ref)
    assert Ref.model_validate_json(ref.model_dump_json()) == ref


def test_an_address_leads_to_the_content_without_the_store(store: Store, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    address = store.put(folder, "model").address
    if address.startswith("s3://"):
        download_folder(address, tmp_path / "by hand", lambda path: True)
        address = str(tmp_path / "by hand")
    assert contents(Path(address)) == contents(folder)


def test_the_digest_depends_on_names_and_bytes_alone(store: Store, tmp_path: Path) -> None:
    refs = [
        store.put(make_folder(tmp_path / "one", a="x", b="y"), "model"),
        store.put(make_folder(tmp_path / "two", b="y", a="x"), "report"),
        store.put(make_folder(tmp_path / "three", a="x", b="z"), "model"),
        store.put(make_folder(tmp_path / "four", a="x", c="y"), "model"),
    ]
    assert refs[0].digest == refs[1].digest
    assert refs[0].address == refs[1].address
    assert len({ref.digest for ref in refs}) == 3


def test_the_manifest_format_is_stable_so_that_old_refs_stay_good(tmp_path: Path) -> None:
    one, empty = hashlib.sha256(b"1").hexdigest(), hashlib.sha256(b"").hexdigest()
    files = [f'{{"path":"B","sha256":"{empty}","size":0}}', f'{{"path":"a/é","sha256":"{one}","size":1}}']
    expected = f'{{"files":[{",".join(files)}],"format":1}}\n'
    ref = open_store(tmp_path / "store").put(make_folder(tmp_path / "folder", **{"a/é": "1", "B": ""}), "model")
    assert ref.digest == hashlib.sha256(expected.encode()).hexdigest()
    assert (Path(ref.address).parent / "manifest.json").read_text() == expected


def test_a_source_that_changes_after_put_does_not_change_what_is_stored(store: Store, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", weights="good")
    ref = store.put(folder, "model")
    with (folder / "weights").open("r+") as file:
        file.write("evil")
    assert (store.fetch(ref) / "weights").read_text() == "good"


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("content/config.json", b"[]"),
        ("content/config.json", b"{}}"),
        ("content/deep/er/\u00fc.txt", None),
        ("content/stray", b"?"),
        ("manifest.json", b"\xff"),
    ],
)
def test_damage_is_found_and_the_file_named(store: Store, tmp_path: Path, path: str, data: bytes | None) -> None:
    ref = store.put(make_folder(tmp_path / "folder"), "model")
    damage(store, ref, path, data)
    with pytest.raises(Corrupted, match=path):
        store.verify(ref)
    if path != "content/stray" or isinstance(store.backend, LocalBackend):
        with pytest.raises(Corrupted, match=path):
            store.fetch(ref)
    assert not list((tmp_path / "cache").rglob("config.json")), "a damaged folder must not enter the cache"


def test_a_stored_file_replaced_by_a_link_is_found(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    ref = store.put(make_folder(tmp_path / "folder"), "model")
    saved = Path(ref.address) / "config.json"
    saved.rename(tmp_path / "elsewhere")
    saved.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Corrupted, match=r"config\.json"):
        store.fetch(ref)


def test_a_folder_without_manifest_is_not_there_and_can_be_put_again(store: Store, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    ref = store.put(folder, "model")
    damage(store, ref, "manifest.json", None)
    damage(store, ref, "content/config.json", None)
    assert not store.exists(ref)
    with pytest.raises(StoreError, match=ref.digest):
        store.fetch(ref)
    assert store.put(folder, "model") == ref
    assert contents(store.fetch(ref)) == contents(folder)


def test_links_are_refused_because_they_lead_out_of_the_folder(store: Store, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    (tmp_path / "outside").mkdir()
    for target in (tmp_path / "outside", folder / "config.json", tmp_path / "nowhere"):
        link = folder / "link"
        link.symlink_to(target)
        with pytest.raises(StoreError, match="folder/link is a link"):
            store.put(folder, "model")
        link.unlink()


def test_what_is_not_a_folder_of_files_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty" / "er").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    for path, reason in (("empty", "no files"), ("file", "not a folder"), ("absent", "not a folder")):
        with pytest.raises(StoreError, match=f"{path}.*{reason}"):
            store.put(tmp_path / path, "model")


@pytest.mark.parametrize("path", ["../x", "/x", "a/../x", "a//x", "./x", "", ".", "a/", "x\0"])
def test_a_manifest_cannot_name_a_file_outside_its_folder(store: Store, path: str) -> None:
    with pytest.raises(ValidationError):
        FileEntry(path=path, size=0, sha256="0" * 64)
    good = Manifest(files=(FileEntry(path="x", size=0, sha256="0" * 64),)).model_dump()
    text = json.dumps(good).replace('"x"', json.dumps(path))
    digest = hashlib.sha256(text.encode()).hexdigest()
    store.backend.write_text(f"objects/{digest[:2]}/{digest}/manifest.json", text)
    with pytest.raises(Corrupted, match="not a manifest"):
        store.fetch(Ref(kind="model", digest=digest, address="", files=1, size=0))


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
            lambda name: name not in (".", "..")
        ),
        st.binary(max_size=50),
        min_size=1,
        max_size=5,
    )
)
def test_any_file_name_and_bytes_survive_the_round_trip(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "folder")
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        store = open_store(Path(place, "store"))
        assert contents(store.fetch(store.put(folder, "dataset"))) == files


def test_a_put_makes_a_damaged_folder_whole_again(store: Store, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    ref = store.put(folder, "model")
    damage(store, ref, "content/config.json", b"[]")
    damage(store, ref, "content/deep/er/\u00fc.txt", None)
    damage(store, ref, "content/stray", b"?")
    assert store.damage(ref.digest) == {
        "config.json": "has another SHA-256 than expected",
        "deep/er/\u00fc.txt": "is missing",
        "stray": "does not belong there",
    }
    with pytest.raises(Corrupted, match="run the stage that made it again"):
        store.verify(ref)
    assert store.put(folder, "model") == ref
    store.verify(ref)
    damage(store, ref, "manifest.json", b"{}")
    assert store.put(folder, "model") == ref
    assert contents(store.fetch(ref)) == contents(folder)


def test_a_put_replaces_links_that_would_lead_it_out_of_the_store(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", **{"deep/file": "x"})
    store = open_store(tmp_path / "store")
    ref = store.put(folder, "model")
    (Path(ref.address) / "deep" / "file").unlink()
    (Path(ref.address) / "deep").rmdir()
    (tmp_path / "outside").mkdir()
    (Path(ref.address) / "deep").symlink_to(tmp_path / "outside")
    store.put(folder, "model")
    store.verify(ref)
    assert contents(tmp_path / "outside") == {}


def test_a_fetched_file_stays_readable_while_the_same_folder_is_put_again(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    folder = make_folder(tmp_path / "folder", weights="x" * 1000)
    with (store.fetch(store.put(folder, "model")) / "weights").open() as reader:
        assert reader.read(10) == "x" * 10
        store.put(folder, "model")
        assert reader.read() == "x" * 990


def test_long_transfers_show_their_progress_in_bytes_and_short_ones_do_not(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []

    class Sink:
        def handle(self, event: Event) -> None:
            events.append(event)

        def close(self) -> None:
            pass

    monkeypatch.setattr("infra.progress.tasks._sink", Sink())
    folder = make_folder(tmp_path / "folder", large="x" * 3_000_000, small="y")
    store.fetch(store.put(folder, "model"))
    assert events == []
    monkeypatch.setattr("infra.store.backend.PROGRESS_FROM", 1_000_000)
    (folder / "small").write_text("z")
    ref = store.put(folder, "model")
    store.fetch(ref)
    store.verify(ref)
    ends = [(e.task, round(e.done, 3), e.total, e.unit) for e in events if e.kind == "task_done"]
    names = ["store model", "fetch model", f"verify {ref.digest[:12]}"]
    assert ends == [(name, 3.0, 3, "MB") for name in names]


def test_the_store_is_given_its_backend_and_imports_none() -> None:
    program = (
        "import sys, infra.store.store; print(*[m for m in sys.modules if m.startswith(('infra.store.', 'boto'))])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "infra.store.store" in run.stdout
    assert not {"infra.store.local", "infra.store.s3", "boto3"} & set(run.stdout.split())
