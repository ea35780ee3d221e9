"""`longhaul store`: what it says, and its exit codes."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli.store import store as command
from infra.store.open import open_store
from infra.store.store import Ref, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def longhaul(store: Store, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, "--store", store.backend.address])


def put(store: Store, tmp_path: Path, text: str, run: str | None = None) -> Ref:
    folder = tmp_path / "folders" / text
    folder.mkdir(parents=True)
    (folder / "file").write_text(text)
    ref = store.put(folder, "model")
    if run:
        record = {"format": 1, "run": run, "stage": "sft", "inputs": {}, "outputs": {"model": ref.model_dump()}}
        store.write_record(f"stage-runs/{run}", record)
        store.write_record(f"runs/{run}", {"format": 1, "run": run, "event": "ended"})
    return ref


def test_ls_says_what_there_is_and_who_uses_it(store: Store, tmp_path: Path) -> None:
    used, stray = put(store, tmp_path, "used", "run-1"), put(store, tmp_path, "stray")
    displayed = longhaul(store, "ls")
    assert displayed.exit_code == 0
    for text in ("model", used.digest[:12], stray.digest[:12], "run-1:sft", "2 folders, 9 bytes"):
        assert text in displayed.output
    rows = {row["digest"]: row for row in json.loads(longhaul(store, "ls", "--json").output)["artifacts"]}
    assert rows[used.digest]["users"] == ["run-1:sft"] and rows[used.digest]["kind"] == "model"
    assert rows[stray.digest]["users"] == [] and rows[stray.digest]["size"] == 5


def test_names_in_records_cannot_drive_the_terminal(store: Store, tmp_path: Path) -> None:
    ref = put(store, tmp_path, "x")
    record = {"format": 1, "run": "r", "stage": "\x1b[2J[red]", "outputs": {"m": ref.model_dump()}}
    store.write_record("stage-runs/r", record)
    displayed = longhaul(store, "ls")
    assert "\x1b" not in displayed.output and "[red]" in displayed.output


def test_verify_names_each_damaged_file_and_fails(store: Store, tmp_path: Path) -> None:
    good, bad = put(store, tmp_path, "good"), put(store, tmp_path, "bad")
    assert longhaul(store, "verify").exit_code == 0
    saved = Path(bad.address) / "file"
    saved.chmod(0o644)
    saved.write_text("BAD")
    (Path(bad.address) / "stray").write_text("?")
    displayed = longhaul(store, "verify")
    assert displayed.exit_code == 1
    assert f"{bad.digest[:12]} file: has another SHA-256" in displayed.output
    assert f"{bad.digest[:12]} stray: does not belong there" in displayed.output
    assert "1 folder whole, 1 damaged" in displayed.output
    assert longhaul(store, "verify", good.digest[:8]).exit_code == 0
    answer = json.loads(longhaul(store, "verify", bad.digest, "--json").output)
    assert answer["verified"] == 1 and set(answer["damaged"][bad.digest]) == {"file", "stray"}


def test_a_damaged_manifest_does_not_keep_the_others_from_being_verified(store: Store, tmp_path: Path) -> None:
    bad = put(store, tmp_path, "bad")
    put(store, tmp_path, "good")
    store.backend.write_text(f"objects/{bad.digest[:2]}/{bad.digest}/manifest.json", "{}")
    displayed = longhaul(store, "verify")
    assert displayed.exit_code == 1 and "1 folder whole, 1 damaged" in displayed.output


def test_a_digest_that_is_not_there_is_refused(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path, "x")
    displayed = longhaul(store, "verify", "0000")
    assert displayed.exit_code == 1 and "no folder whose digest begins with '0000'" in displayed.output


def test_gc_deletes_only_when_asked_to(store: Store, tmp_path: Path) -> None:
    used, stray = put(store, tmp_path, "used", "run-1"), put(store, tmp_path, "stray")
    assert "would delete 0 folders" in longhaul(store, "gc").output, "what was put recently stays"
    displayed = longhaul(store, "gc", "--grace", "0")
    assert displayed.exit_code == 0
    assert f"{stray.digest[:12]}  1 file, 5 bytes" in displayed.output
    assert "would delete 1 folder: 5 bytes" in displayed.output and "do it with --delete" in displayed.output
    assert store.exists(stray)
    assert "deleted 1 folder: 5 bytes" in longhaul(store, "gc", "--grace", "0", "--delete").output
    assert store.exists(used) and not store.exists(stray)
    answer = json.loads(longhaul(store, "gc", "--grace", "0", "--drop-run", "run-1", "--delete", "--json").output)
    assert answer["deleted"] and answer["bytes"] == 4 and answer["dropped_runs"] == ["run-1"]
    assert not store.exists(used)


def test_gc_deletes_iterations_to_fork_from_by_their_age(store: Store, tmp_path: Path) -> None:
    state = put(store, tmp_path, "state")
    record = {"format": 2, "run": "run-1", "stage": "rl", "inputs": {}, "outputs": {}}
    store.write_record("stage-runs/run-1", record | {"iterations": {"10": state.model_dump()}})
    assert "would delete 0 folders" in longhaul(store, "gc", "--grace", "0").output, "two weeks are not over"
    displayed = longhaul(store, "gc", "--grace", "0", "--iteration-days", "0").output
    assert f"{state.digest[:12]}  1 file, 5 bytes, an iteration to fork from" in displayed
    answer = json.loads(longhaul(store, "gc", "--grace", "0", "--iteration-days", "0", "--delete", "--json").output)
    assert answer["iterations"] == [state.digest] and not store.exists(state)


def test_a_store_that_cannot_be_used_is_an_error_with_its_reason(store: Store) -> None:
    store.backend.write_text("store.json", '{"format": 99}')
    for arguments in (["ls"], ["verify"], ["gc"]):
        displayed = longhaul(store, *arguments)
        assert displayed.exit_code == 1 and "format 99" in displayed.output, arguments


@pytest.mark.parametrize("gone", ["manifest", "folder"])
def test_verify_tells_of_a_folder_that_is_gone_though_records_refer_to_it(
    store: Store, tmp_path: Path, gone: str
) -> None:
    ref, other = put(store, tmp_path, "used", "run-1"), put(store, tmp_path, "other", "run-1")
    folder = Path(ref.address).parent
    (folder / "manifest.json").unlink()
    if gone == "folder":
        shutil.rmtree(folder)
    displayed = longhaul(store, "verify")
    assert displayed.exit_code == 1 and "1 folder whole, 1 damaged" in displayed.output
    assert (
        f"{ref.digest[:12]} manifest.json: " in displayed.output and f"has no folder {ref.digest}" in displayed.output
    )
    assert longhaul(store, "verify", ref.digest[:10]).exit_code == 1
    assert longhaul(store, "verify", other.digest[:10]).exit_code == 0


def test_verify_does_not_miss_what_gc_deleted(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path, "used", "run-1")
    longhaul(store, "gc", "--grace", "0", "--drop-run", "run-1", "--delete")
    displayed = longhaul(store, "verify")
    assert displayed.exit_code == 0 and "0 folders whole, 0 damaged" in displayed.output


def test_ls_verify_and_gc_go_on_beside_damaged_records_and_name_them(store: Store, tmp_path: Path) -> None:
    ref, stray = put(store, tmp_path, "used", "run-1"), put(store, tmp_path, "stray")
    (key,) = store.list_records("runs")
    store.backend.write_text(f"records/{key}", '{"run')
    store.backend.write_text("records/runs/x y.json", "{}")
    for arguments in (["ls"], ["verify"], ["gc", "--grace", "0", "--delete"]):
        displayed = longhaul(store, *arguments)
        assert displayed.exit_code == 0, arguments
        assert f"skipped: {store.backend.address}/records/{key}" in displayed.output, arguments
        assert "x y.json is not a record" in displayed.output, arguments
    assert "no folder is deleted" in displayed.output
    assert store.exists(ref) and store.exists(stray)
    (Path(store.backend.address) / "records" / key).unlink()
    assert "deleted 1 folder" in longhaul(store, "gc", "--grace", "0", "--delete").output
