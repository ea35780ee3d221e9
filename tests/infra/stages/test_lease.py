"""Of all machines that share a store, one at a time runs a stage: leases against a folder and against S3."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import boto3
import pytest

from infra.signal_handlers import handling
from infra.stages import lease as lease_module
from infra.stages.contract import StageContext, StageOutput
from infra.stages.key import KeyParts
from infra.stages.lease import Lease, LeaseLost, leased
from infra.stages.runner import StageRunner, StageTask
from infra.store import records
from infra.store.backend import Backend, Corrupted, StoreError
from infra.store.open import open_backend, open_store
from infra.store.records import StageRecord
from infra.tracking.tracker import TrackingConfig

ROOT = Path(__file__).parents[3]
PROCESS = Path(__file__).with_name("leased_process.py")
KEY = "b" * 64
SEEDS = range(int(os.environ.get("LONGHAUL_LEASE_RUNS", "2")))
"""LONGHAUL_LEASE_RUNS=20 tries as many orders of kills."""


@pytest.fixture(params=["folder", "s3"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "folder":
        return open_backend(tmp_path / "store")
    request.getfixturevalue("s3")
    boto3.client("s3").create_bucket(Bucket="leases")
    return open_backend(f"s3://leases/{uuid.uuid4().hex}")


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fast leases, and what they said."""
    messages: list[str] = []
    monkeypatch.setattr(lease_module, "say", messages.append)
    for name, value in (("EXPIRES_S", 1.5), ("RENEW_S", 0.1), ("POLL_S", 0.02)):
        monkeypatch.setattr(lease_module, name, value)
    return messages


def test_a_text_is_written_only_in_the_state_that_is_named(backend: Backend) -> None:
    assert backend.read_tagged("leases/a.json") is None
    first = backend.write_if("leases/a.json", "1", None)
    assert first is not None and backend.read_tagged("leases/a.json") == (b"1", first)
    assert backend.write_if("leases/a.json", "2", None) is None
    second = backend.write_if("leases/a.json", "2", first)
    assert second is not None and backend.write_if("leases/a.json", "3", first) is None
    assert backend.read_tagged("leases/a.json") == (b"2", second)
    assert backend.write_if("leases/b.json", "1", first) is None


def test_of_many_that_want_a_lease_one_holds_it_at_a_time(backend: Backend) -> None:
    inside, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with leased(backend, KEY, "rl", "run"):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.05)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert most == 1


def test_a_lease_is_held_as_long_as_it_is_renewed_and_taken_over_after(
    backend: Backend, in_no_time: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "machine", lambda: "elsewhere")
    gone = Lease(backend, KEY, "first")
    gone.acquire("rl")
    keeping = threading.Thread(target=gone.keep, daemon=True)
    keeping.start()
    monkeypatch.setattr(lease_module, "machine", lambda: "here")
    after = Lease(backend, KEY, "second")
    waiting = threading.Thread(target=after.acquire, args=["rl"])
    waiting.start()
    time.sleep(2)
    assert waiting.is_alive() and gone.held, "a lease that is renewed was taken over"
    gone._over.set()  # its machine lost its power
    waiting.join(20)
    assert not waiting.is_alive() and after.held
    assert "waiting for" in in_no_time[0] and "run first" in in_no_time[0]
    assert "taken over" in in_no_time[1]


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for(backend: Backend) -> None:
    killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    gone = Lease(backend, KEY, "first")
    gone._content = gone._content.model_copy(update={"process": lease_module.process_name(killed.pid)})
    gone.acquire("rl")
    after = Lease(backend, KEY, "second")
    waiting = threading.Thread(target=after.acquire, args=["rl"])
    waiting.start()
    time.sleep(0.2)
    assert waiting.is_alive()
    killed.kill()
    killed.wait()
    waiting.join(1)
    assert not waiting.is_alive()


def test_a_process_that_stood_still_is_interrupted_when_another_has_taken_over(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(LeaseLost, match="another machine has taken the stage over"),
        leased(backend, KEY, "rl", "first") as own,
    ):
        current = backend.read_tagged(f"leases/{KEY}.json")
        while current is not None and backend.write_if(f"leases/{KEY}.json", '{"holder": "other"}', current[1]) is None:
            current = backend.read_tagged(f"leases/{KEY}.json")
        for _ in range(1000):
            time.sleep(0.01)
    assert own.lost and not own.held
    assert (backend.read(f"leases/{KEY}.json") or b"").startswith(b'{"holder": "other"'), "another's lease was released"


def test_it_is_interrupted_where_the_process_ignores_interrupts_too(tmp_path: Path) -> None:
    backend = open_backend(tmp_path / "store")
    with handling([signal.SIGINT], signal.SIG_IGN):  # as a script's `&` and nohup leave it
        with pytest.raises(LeaseLost), leased(backend, KEY, "rl", "first"):
            backend.write_text(f"leases/{KEY}.json", '{"holder": "other"}')
            time.sleep(20)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_the_record_of_a_stage_that_was_taken_over_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    parts = KeyParts.now("lost", {}, 0, {}, {}, "infra.stages.contract")
    place = f"leases/{parts.key}.json"

    def body(context: StageContext, settings: None) -> StageOutput:
        store.backend.write_text(place, '{"holder": "other"}')
        time.sleep(20)
        return StageOutput({}, {})

    runner = StageRunner(store, "run", tmp_path, TrackingConfig(mode="disabled"))
    with pytest.raises(LeaseLost):
        runner(StageTask("lost", parts, None, lambda: body))
    (record,) = records.read(store, StageRecord, "stage-runs/run")
    assert record.failure and record.failure.error.startswith("LeaseLost: lost: this process stood still")


def test_a_renewal_that_arrived_without_its_answer_counts(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = threading.Event()
    write = backend.write_if

    def without_answer(key: str, text: str, tag: str | None) -> str | None:
        written = write(key, text, tag)
        if arrived.is_set() or json.loads(text)["renewals"] == 0:
            return written
        arrived.set()
        raise StoreError("the connection was lost")

    monkeypatch.setattr(backend, "write_if", without_answer)
    with leased(backend, KEY, "rl", "run") as own:
        assert arrived.wait(10)
        until = time.monotonic() + 20
        while json.loads(backend.read(f"leases/{KEY}.json") or b"")["renewals"] < 4:
            assert not own.lost and time.monotonic() < until
            time.sleep(0.02)
    assert json.loads(backend.read(f"leases/{KEY}.json") or b"")["holder"] is None


def test_a_file_that_is_not_a_lease_is_named_and_a_server_without_conditions_refused(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.write_text(f"leases/{KEY}.json", "{")
    with pytest.raises(Corrupted, match=r"leases/b+\.json is not a lease: delete it"):
        Lease(backend, KEY, "run").acquire("rl")
    backend.delete([f"leases/{KEY}.json"])

    def without_conditions(key: str, text: str, tag: str | None) -> str:
        backend.write_text(key, text)
        backend.write_text(key, '{"holder": "other"}')  # which nothing has kept away
        return "tag"

    monkeypatch.setattr(backend, "write_if", without_conditions)
    with pytest.raises(StoreError, match="ignores If-Match"):
        Lease(backend, KEY, "run").acquire("rl")


def start(store: str, home: Path, machine: str, journal: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROCESS), store, str(home), machine, str(journal)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_two_machines_that_are_killed_at_random_make_a_stage_once_and_as_undisturbed(
    s3: None, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    boto3.client("s3").create_bucket(Bucket="leases")
    store, journal = f"s3://leases/{uuid.uuid4().hex}", tmp_path / "journal"
    # Half of the time the two know each other for processes of one machine, half of the time only the lease counts.
    machines = {"a": "one", "b": "one" if seed % 2 else "two"}
    running = {name: start(store, tmp_path / name, machine, journal) for name, machine in machines.items()}
    for _ in range(4):
        time.sleep(draw.uniform(0.2, 2.5))
        name = draw.choice(["a", "b"])
        if running[name].poll() is None:
            running[name].kill()
            running[name].communicate()
            running[name] = start(store, tmp_path / name, machines[name], journal)
    results = []
    for process in running.values():
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-3000:]
        results.append(json.loads(output.splitlines()[-1]))
    undisturbed, _ = start(f"s3://leases/{uuid.uuid4().hex}", tmp_path / "c", "three", tmp_path / "other").communicate()
    assert {one["outputs"] for one in results} == {json.loads(undisturbed.splitlines()[-1])["outputs"]}
    assert "overlap" not in journal.read_text().splitlines()
    made = list(records.read(open_store(store, tmp_path / "cache"), StageRecord, f"stages/{results[0]['key']}"))
    assert len(made) == 1, "the stage was made twice"
    assert open_backend(store).files(f"checkpoints/{results[0]['key']}") == {}
