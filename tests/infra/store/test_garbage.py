"""What gc keeps and what it deletes."""

import json
import os
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.store.garbage import DAY, collect, plan
from infra.store.inventory import artifacts, references
from infra.store.open import open_store
from infra.store.records import FORMAT
from infra.store.store import Ref, Store, StoreError, object_prefix

BUCKET = "garbage"


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(tmp_path / "store", tmp_path / "cache")
    request.getfixturevalue("s3")
    client = boto3.client("s3")
    if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET)
    return open_store(f"s3://{BUCKET}/{tmp_path.name}-{time.time_ns()}", tmp_path / "cache")


def put(store: Store, tmp_path: Path, text: str) -> Ref:
    folder = tmp_path / "folders" / text
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text(text)
    return store.put(folder, "model")


def stage(store: Store, run: str, name: str, inputs: list[Ref], outputs: list[Ref]) -> dict[str, Any]:
    """A stage's record, with what gc looks at."""
    record = {
        "format": 1,
        "run": run,
        "stage": name,
        "inputs": {str(n): ref.model_dump() for n, ref in enumerate(inputs)},
        "outputs": {str(n): ref.model_dump() for n, ref in enumerate(outputs)},
    }
    store.write_record(f"stage-runs/{run}", record)
    store.write_record(f"stages/{name}-{run}", record)
    return record


def end(store: Store, run: str) -> None:
    store.write_record(f"runs/{run}", {"format": 1, "run": run, "event": "ended"})


def gone(store: Store, **options: Any) -> set[str]:
    """Digests that gc would delete, without a grace."""
    return {artifact.digest for artifact in plan(store, grace_seconds=-60, **options).deleted}


@pytest.fixture
def chain(store: Store, tmp_path: Path) -> dict[str, Ref]:
    """Two runs: base → old → older model in the first, base → new in the second; stray is nobody's."""
    refs = {name: put(store, tmp_path, name) for name in ("base", "old", "model", "new", "stray")}
    stage(store, "run-1", "import", [], [refs["base"]])
    stage(store, "run-1", "sft", [refs["base"]], [refs["old"]])
    stage(store, "run-1", "rl", [refs["old"]], [refs["model"]])
    end(store, "run-1")
    stage(store, "run-2", "import", [], [refs["base"]])
    stage(store, "run-2", "sft", [refs["base"]], [refs["new"]])
    end(store, "run-2")
    return refs


def test_only_what_no_run_refers_to_goes(store: Store, chain: dict[str, Ref]) -> None:
    assert gone(store) == {chain["stray"].digest}


def test_dropped_runs_lose_what_no_kept_run_refers_to(store: Store, chain: dict[str, Ref]) -> None:
    old = {chain[name].digest for name in ("old", "model", "stray")}
    assert gone(store, keep_runs=1) == old
    assert gone(store, drop_runs=["run-1"]) == old
    assert gone(store, drop_runs=["run-2"]) == {chain["new"].digest, chain["stray"].digest}
    assert gone(store, keep_runs=0) == {ref.digest for ref in chain.values()}


def test_iterations_go_by_age_unless_what_stays_continued_from_them(store: Store, tmp_path: Path) -> None:
    refs = {name: put(store, tmp_path, name) for name in ("base", "kept", "unused", "model", "forked")}
    record = stage(store, "run-1", "rl", [refs["base"]], [refs["model"]])
    iterations = {"5": refs["kept"].model_dump(), "10": refs["unused"].model_dump()}
    store.write_record("stages/rl-kept", record | {"iterations": iterations})
    end(store, "run-1")
    stage(store, "run-2", "rl", [refs["base"], refs["kept"]], [refs["forked"]])
    end(store, "run-2")
    assert gone(store) == set(), "none is old"
    old: Any = {"iteration_seconds": -60}
    assert gone(store, **old) == {refs["unused"].digest}
    assert plan(store, grace_seconds=-60, **old).iterations == {refs["unused"].digest}
    assert gone(store, drop_runs=["run-2"], **old) == {refs[name].digest for name in ("kept", "unused", "forked")}
    assert gone(store, drop_runs=["run-1"]) == {refs["unused"].digest, refs["model"].digest}
    store.write_record("tags/production", {"format": 1, "model": refs["forked"].model_dump()})
    assert gone(store, keep_runs=0, **old) == {refs["unused"].digest, refs["model"].digest}


def test_a_tagged_model_stays_with_all_that_it_was_made_from(store: Store, chain: dict[str, Ref]) -> None:
    store.write_record("tags/production", {"format": 1, "model": chain["new"].model_dump()})
    store.write_record("tags/production", {"format": 1, "model": chain["model"].model_dump()})
    assert gone(store, keep_runs=0) == {chain["new"].digest, chain["stray"].digest}
    store.write_record("tags/production", {"format": 1, "model": None})
    assert gone(store, keep_runs=0) == {ref.digest for ref in chain.values()}


def test_what_was_put_recently_stays(store: Store, chain: dict[str, Ref]) -> None:
    planned = plan(store, keep_runs=0)
    assert planned.deleted == ()
    assert planned.dropped_runs == (), "a run with young records may still be running"
    assert (planned.retained, planned.young) == (5, 1)


def test_a_run_that_may_still_run_is_not_dropped(store: Store, chain: dict[str, Ref]) -> None:
    stage(store, "run-3", "import", [], [chain["base"]])
    with pytest.raises(StoreError, match="run-3 has not ended and may still be running"):
        plan(store, drop_runs=["run-3"])
    with pytest.raises(StoreError, match="there is no run run-4; the newest are run-3, run-2, run-1"):
        plan(store, drop_runs=["run-4"])


def test_nothing_is_deleted_before_it_is_asked_for_and_then_it_is_said_to_be_gone(
    store: Store, chain: dict[str, Ref]
) -> None:
    planned = plan(store, keep_runs=1, grace_seconds=-60)
    assert all(store.exists(ref) for ref in chain.values())
    records = store.list_records()
    assert collect(store, planned) == (3, len("old" + "model" + "stray"))
    assert {name for name, ref in chain.items() if store.exists(ref)} == {"base", "new"}
    with pytest.raises(StoreError, match="`longhaul store gc` deleted it"):
        store.fetch(chain["model"])
    assert store.list_records() == records, "records are never deleted"
    assert [a.digest for a in artifacts(store)] == sorted(chain[name].digest for name in ("base", "new"))
    for name in ("base", "new"):
        store.verify(chain[name])


def test_what_was_deleted_can_be_put_again(store: Store, chain: dict[str, Ref], tmp_path: Path) -> None:
    collect(store, plan(store, keep_runs=0, grace_seconds=-60))
    assert artifacts(store) == []
    assert put(store, tmp_path, "model") == chain["model"]
    assert (store.fetch(chain["model"]) / "file").read_text() == "model"


def test_what_is_put_or_referred_to_after_the_plan_stays(store: Store, chain: dict[str, Ref], tmp_path: Path) -> None:
    time.sleep(1.1)  # S3 tells times in whole seconds
    planned = plan(store, keep_runs=0, grace_seconds=0)
    assert len(planned.deleted) == 5
    time.sleep(1.1)
    put(store, tmp_path, "stray")
    stage(store, "run-3", "import", [], [chain["base"]])
    collect(store, planned)
    assert {name for name, ref in chain.items() if store.exists(ref)} == {"base", "stray"}


def test_what_a_put_that_broke_off_has_left_goes(store: Store, chain: dict[str, Ref]) -> None:
    store.backend.delete([f"{object_prefix(chain['stray'].digest)}/manifest.json"])
    planned = plan(store, grace_seconds=-60)
    assert [(artifact.digest, artifact.whole) for artifact in planned.deleted] == [(chain["stray"].digest, False)]
    collect(store, planned)
    assert not [path for path in store.backend.sizes("objects") if chain["stray"].digest in path]


def test_leftovers_of_old_transfers_go_and_those_of_running_ones_stay(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    put(store, tmp_path, "x")
    for name in ("old", "young"):
        (tmp_path / "store" / "tmp" / name).mkdir()
        (tmp_path / "store" / "tmp" / name / "0").write_text("12345")
    long_ago = time.time() - 2 * DAY
    os.utime(tmp_path / "store" / "tmp" / "old" / "0", (long_ago, long_ago))
    assert collect(store, plan(store)) == (0, 5)
    assert os.listdir(tmp_path / "store" / "tmp") == ["young"]


def test_uploads_that_broke_off_go(s3: None, tmp_path: Path) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="uploads")
    store = open_store("s3://uploads/store")
    put(store, tmp_path, "x")
    for key in ("store/objects/aa/file", "elsewhere/file"):
        upload = client.create_multipart_upload(Bucket="uploads", Key=key)["UploadId"]
        client.upload_part(Bucket="uploads", Key=key, UploadId=upload, PartNumber=1, Body=b"12345")
    assert collect(store, plan(store)) == (0, 5)
    left = client.list_multipart_uploads(Bucket="uploads")["Uploads"]
    assert [upload["Key"] for upload in left] == ["elsewhere/file"], "uploads outside the store are not its own"


def test_a_record_of_a_newer_format_stops_gc(store: Store, chain: dict[str, Ref]) -> None:
    store.write_record("stage-runs/run-9", {"format": FORMAT + 1})
    with pytest.raises(StoreError, match=rf"stage-runs/run-9/.* is of format {FORMAT + 1}"):
        plan(store)


def test_no_folder_goes_while_a_record_is_damaged(store: Store, chain: dict[str, Ref]) -> None:
    key = store.list_records("stage-runs/run-1")[0]
    whole = (store.backend.read(f"records/{key}") or b"").decode()
    store.backend.write_text(f"records/{key}", whole[:40])
    planned = plan(store, keep_runs=1, grace_seconds=-60)
    assert planned.deleted == () and planned.held
    assert len(planned.problems) == 1 and key in planned.problems[0]
    store.backend.write_text(f"records/{key}", whole)
    assert len(plan(store, keep_runs=1, grace_seconds=-60).deleted) == 3


def test_a_record_damaged_after_the_plan_was_made_stops_deleting(store: Store, chain: dict[str, Ref]) -> None:
    planned = plan(store, keep_runs=1, grace_seconds=-60)
    store.backend.write_text(f"records/stage-runs/run-9/{1:020d}-ab.json", "{")
    with pytest.raises(StoreError, match="is not JSON"):
        collect(store, planned)
    assert all(store.exists(ref) for ref in chain.values())


def test_files_that_are_not_records_do_not_hold_gc_up(store: Store, chain: dict[str, Ref]) -> None:
    for name in ("x y.json", "notes.txt", "x.json"):
        store.backend.write_text(f"records/stage-runs/run-1/{name}", "{")
    planned = plan(store, keep_runs=1, grace_seconds=-60)
    assert len(planned.deleted) == 3 and not planned.held and len(planned.problems) == 3


def test_references_count_wherever_they_stand_in_a_record(store: Store, chain: dict[str, Ref]) -> None:
    store.write_record("later/kind", json.loads(json.dumps({"deep": [[{"er": chain["stray"].model_dump()}]]})))
    assert gone(store, keep_runs=0) == {ref.digest for name, ref in chain.items() if name != "stray"}


def test_who_uses_an_artifact_is_known(store: Store, chain: dict[str, Ref]) -> None:
    store.write_record("tags/production", {"format": 1, "model": chain["new"].model_dump()})
    known = references(store)
    assert known.users(chain["new"].digest) == ["tag production", "run-2:sft"]
    assert known.users(chain["stray"].digest) == []
    assert known.kinds[chain["base"].digest] == "model"
