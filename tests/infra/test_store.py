"""The store, on a folder and on a real S3 server (moto's)."""

import hashlib
import json
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from infra import progress
from infra.local_backend import LocalBackend
from infra.s3 import S3Backend, download_folder, split_address
from infra.store import Corrupted, FileEntry, Manifest, Ref, Store, StoreError

BUCKET = "tests"


@pytest.fixture
def place(s3: None, request: pytest.FixtureRequest) -> str:
    """An S3 address of this test's own."""
    client = boto3.client("s3")
    if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET)
    return f"s3://{BUCKET}/{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]}"


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(tmp_path / "store", tmp_path / "cache")
    return Store(request.getfixturevalue("place"), tmp_path / "cache")


def make_folder(folder: Path, **texts: str) -> Path:
    files = texts or {"config.json": "{}", "empty": "", "deep/er/ü.txt": "text\n"}
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
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
        where = {"Bucket": store.backend.bucket, "Key": f"{store.backend.prefix}/{key}"}
        store.backend.client.delete_object(**where)
        if data is not None:
            store.backend.client.put_object(**where, Body=data)


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
    ref = Store(tmp_path / "store").put(make_folder(tmp_path / "folder", **{"a/é": "1", "B": ""}), "model")
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
    store = Store(tmp_path / "store")
    ref = store.put(make_folder(tmp_path / "folder"), "model")
    stored = Path(ref.address) / "config.json"
    stored.rename(tmp_path / "elsewhere")
    stored.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Corrupted, match=r"config\.json"):
        store.fetch(ref)


def test_a_damaged_cache_is_downloaded_again(place: str, tmp_path: Path) -> None:
    store = Store(place, tmp_path / "cache")
    ref = store.put(make_folder(tmp_path / "folder"), "model")
    cached = store.fetch(ref)
    (cached / "config.json").chmod(0o644)
    (cached / "config.json").write_text("[]")
    assert store.fetch(ref) == cached
    assert (cached / "config.json").read_text() == "{}"


def test_a_whole_cache_is_not_downloaded_again(place: str, tmp_path: Path) -> None:
    store = Store(f"s3://{BUCKET}", tmp_path / "cache")
    ref = store.put(make_folder(tmp_path / "folder"), "model")
    store.fetch(ref)
    damage(store, ref, "content/config.json", None)
    assert (store.fetch(ref) / "config.json").read_text() == "{}"


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


@pytest.mark.parametrize("change", [b"longer than it was", b"short", b"0123456789"])
def test_a_file_that_changes_while_it_is_stored_is_refused(tmp_path: Path, change: bytes) -> None:
    folder = make_folder(tmp_path / "folder", weights="0123456789")
    store = Store(tmp_path / "store")

    def changing(done: int) -> None:
        time.sleep(0.01)  # file systems tell times apart from some milliseconds on
        (folder / "weights").write_bytes(change)

    with pytest.raises(StoreError, match="weights changed while"):
        store.backend.incoming(folder, {"weights": 10}, changing).__enter__()
    assert contents(tmp_path / "store") == {}


def test_files_larger_than_a_part_survive_the_round_trip(place: str, tmp_path: Path) -> None:
    store = Store(place, tmp_path / "cache")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights").write_bytes(bytes(range(256)) * (33 << 12))
    assert (store.fetch(store.put(folder, "model")) / "weights").read_bytes() == (folder / "weights").read_bytes()


def test_writers_of_the_same_folder_at_once_do_no_harm(store: Store, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", **{f"file{n}": str(n) * 1000 for n in range(20)})
    refs: list[Ref] = []

    def put_and_read() -> None:
        ref = store.put(folder, "model")
        store.verify(ref)
        assert contents(store.fetch(ref)) == contents(folder)
        refs.append(ref)

    threads = [threading.Thread(target=put_and_read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refs) == 4
    assert len(set(refs)) == 1


def test_links_are_refused_because_they_lead_out_of_the_folder(store: Store, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    (tmp_path / "outside").mkdir()
    for target in (tmp_path / "outside", folder / "config.json", tmp_path / "nowhere"):
        link = folder / "link"
        link.symlink_to(target)
        with pytest.raises(StoreError, match="folder/link is a link"):
            store.put(folder, "model")
        link.unlink()


def test_what_is_no_folder_of_files_is_refused(store: Store, tmp_path: Path) -> None:
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
        store = Store(Path(place, "store"))
        assert contents(store.fetch(store.put(folder, "dataset"))) == files


def test_a_full_disk_is_reported_with_the_path_and_leaves_nothing(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", weights="x" * 100_000)
    store = Store(tmp_path / "store")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # Writes beyond the limit fail as they do on a full disk, in the same system call.
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"weights: File too large"):
            store.put(folder, "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(contents(tmp_path / "store")) == ["store.json"]


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    folder = make_folder(tmp_path / "folder")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/store"):
        Store(tmp_path / "file" / "store").put(folder, "model")
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/.*NoSuchBucket"):
        Store("s3://no-such-bucket").put(folder, "model")
    with pytest.raises(StoreError, match="S3 address begins with s3://"):
        Store(Path("s3://bucket/prefix"))


def test_a_server_that_does_not_answer_is_an_error_of_the_store(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0)
    with pytest.raises(StoreError, match="Could not connect"):
        Store("s3://bucket").put(make_folder(tmp_path / "folder"), "model")


def test_a_put_makes_a_damaged_folder_whole_again(store: Store, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    ref = store.put(folder, "model")
    damage(store, ref, "content/config.json", b"[]")
    damage(store, ref, "content/deep/er/\u00fc.txt", None)
    damage(store, ref, "content/stray", b"?")
    assert store.damage(ref.digest) == {
        "config.json": "has another SHA-256 than what was put",
        "deep/er/\u00fc.txt": "is missing",
        "stray": "was not put there",
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
    store = Store(tmp_path / "store")
    ref = store.put(folder, "model")
    (Path(ref.address) / "deep" / "file").unlink()
    (Path(ref.address) / "deep").rmdir()
    (tmp_path / "outside").mkdir()
    (Path(ref.address) / "deep").symlink_to(tmp_path / "outside")
    store.put(folder, "model")
    store.verify(ref)
    assert contents(tmp_path / "outside") == {}


def test_a_fetched_file_stays_readable_while_the_same_folder_is_put_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    folder = make_folder(tmp_path / "folder", weights="x" * 1000)
    with (store.fetch(store.put(folder, "model")) / "weights").open() as reader:
        assert reader.read(10) == "x" * 10
        store.put(folder, "model")
        assert reader.read() == "x" * 990


WRITER = """
import sys
from pathlib import Path
from infra.store import Store
store = Store(sys.argv[1], Path(sys.argv[2]))
for turn in range(3):
    ref = store.put(Path(sys.argv[3]), "model")
    store.verify(ref)
    assert store.fetch(ref).is_dir()
    store.write_record("runs/shared", {"process": sys.argv[4], "turn": turn})
print(ref.digest)
"""


def test_processes_that_put_and_fetch_the_same_folder_at_once_do_no_harm(store: Store, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", **{f"file{n}": str(n) * 1000 for n in range(10)})
    places = [store.backend.address, str(tmp_path / "cache"), str(folder)]
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, *places, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(2)
    ]
    digests = [process.communicate()[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    ref = store.put(folder, "model")
    assert digests == [ref.digest] * 2
    store.verify(ref)
    records = store.read_records("runs/shared")
    assert len(records) == 6
    assert [record["turn"] for record in records if record["process"] == "1"] == [0, 1, 2]
    assert store.backend.leftovers() == []


KILLED = """
import os, infra.local_backend
infra.local_backend.sync_folder = lambda folder: os.kill(os.getpid(), 9)
"""


def test_a_writer_that_is_killed_leaves_nothing_visible_and_the_next_put_is_whole(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", **{f"file{n}": str(n) * 1000 for n in range(10)})
    program = WRITER.replace(
        "store =", "import os, infra.local_backend as b\nb.sync_folder = lambda f: os.kill(os.getpid(), 9)\nstore ="
    )
    places = [str(tmp_path / "store"), str(tmp_path / "cache"), str(folder)]
    assert subprocess.run([sys.executable, "-c", program, *places, "0"], check=False).returncode == -9
    assert not list((tmp_path / "store").rglob("manifest.json"))
    store = Store(tmp_path / "store")
    assert contents(store.fetch(store.put(folder, "model"))) == contents(folder)


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
    store = Store(tmp_path / "store")
    store.backend.write_text("store.json", text)
    with pytest.raises(Corrupted, match=r"store\.json is not like"):
        store.list_records()


def test_a_store_from_before_formats_is_read_and_marked(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    ref = Store(tmp_path / "store").put(folder, "model")
    (tmp_path / "store" / "store.json").unlink()
    old = Store(tmp_path / "store")
    assert contents(old.fetch(ref)) == contents(folder)
    old.write_record("a", {})
    assert (tmp_path / "store" / "store.json").exists()


@pytest.mark.parametrize(
    ("kind", "key", "expected"),
    [
        ("AES256", "", {"ServerSideEncryption": "AES256"}),
        ("aws:kms", "", {"ServerSideEncryption": "aws:kms"}),
        ("aws:kms", "alias/ours", {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/ours"}),
    ],
)
def test_everything_is_encrypted_as_the_environment_says(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, key: str, expected: dict[str, str]
) -> None:
    monkeypatch.setenv("LONGHAUL_S3_SSE", kind)
    monkeypatch.setenv("LONGHAUL_S3_SSE_KMS_KEY_ID", key)
    monkeypatch.setattr("infra.s3_upload.PART", 5 << 20)
    folder = make_folder(tmp_path / "folder", small="x", large="x" * (6 << 20))
    store = Store(place, tmp_path / "cache")
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
    Store(place).put(folder, "model")
    monkeypatch.setenv("LONGHAUL_S3_SSE", "aws:kms")
    store = Store(place)
    store.put(folder, "model")
    assert isinstance(store.backend, S3Backend)
    keys = [store.backend.key(path) for path in store.backend.sizes("") if path != "store.json"]
    heads = [store.backend.client.head_object(Bucket=BUCKET, Key=key) for key in keys]
    assert [head["ServerSideEncryption"] for head in heads] == ["aws:kms", "aws:kms"]


@pytest.mark.parametrize(
    ("kind", "key", "message"),
    [
        ("aes256", "", "LONGHAUL_S3_SSE=aes256: expected one of AES256, aws:kms, aws:kms:dsse"),
        ("", "alias/ours", "LONGHAUL_S3_SSE_KMS_KEY_ID=alias/ours needs LONGHAUL_S3_SSE=aws:kms, which is not set"),
        ("AES256", "alias/ours", "needs LONGHAUL_S3_SSE=aws:kms, which is AES256"),
    ],
)
def test_an_encryption_that_cannot_be_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, kind: str, key: str, message: str
) -> None:
    monkeypatch.setenv("LONGHAUL_S3_SSE", kind)
    monkeypatch.setenv("LONGHAUL_S3_SSE_KMS_KEY_ID", key)
    with pytest.raises(StoreError, match=message):
        Store("s3://bucket")


def test_long_transfers_show_their_progress_in_bytes_and_short_ones_do_not(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[progress.Event] = []

    class Sink:
        def handle(self, event: progress.Event) -> None:
            events.append(event)

        def close(self) -> None:
            pass

    monkeypatch.setattr(progress, "_sink", Sink())
    folder = make_folder(tmp_path / "folder", large="x" * 3_000_000, small="y")
    store.fetch(store.put(folder, "model"))
    assert events == []
    monkeypatch.setattr("infra.backend.SHOWN_FROM", 1_000_000)
    (folder / "small").write_text("z")
    ref = store.put(folder, "model")
    store.fetch(ref)
    store.verify(ref)
    ends = [(e.task, round(e.done, 3), e.total, e.unit) for e in events if e.kind == "task_done"]
    names = ["store model", "fetch model", f"verify {ref.digest[:12]}"]
    assert ends == [(name, 3.0, 3, "MB") for name in names]


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


def test_a_download_takes_only_what_is_wanted_and_says_what_it_left(place: str, tmp_path: Path) -> None:
    store = Store(place)
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
