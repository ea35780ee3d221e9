"""Three machines with one Metaflow service on PostgreSQL and one S3: what the cluster's installation gives to runs.

The service is Metaflow's own, from its sources: `make metaflow` brings it into .venv/metaflow-service, or
LONGHAUL_METAFLOW_SERVICE names a folder with `source` and `venv`. Its schema is made of the migrations in its sources.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest

from tests.postgresql import postgresql_server

ROOT = Path(__file__).parents[3]
FLOW = Path(__file__).with_name("shared_flow.py")
SERVICE = Path(os.environ.get("LONGHAUL_METAFLOW_SERVICE") or ROOT / ".venv" / "metaflow-service")
STORE = "s3://shared/store"
DATABASE = {"NAME": "postgres", "USER": "longhaul", "PSWD": "none", "PORT": "5432", "SSL_MODE": "disabled"}


@pytest.fixture(scope="module")
def database() -> Iterator[Path]:
    """PostgreSQL with the service's tables."""
    files = sorted(
        (SERVICE / "source" / "services" / "migration_service" / "migration_files").glob("*.sql"), key=number
    )
    if not files or not (SERVICE / "venv" / "bin" / "python").exists():
        pytest.skip(f"Metaflow's service is not in {SERVICE}: `make metaflow` brings it, from GitHub")
    with postgresql_server() as folder, psycopg.connect(host=str(folder), user="longhaul", dbname="postgres") as made:
        made.autocommit = True
        for file in files:
            for statement in statements(file.read_text(encoding="utf-8")):
                made.execute(statement)
        yield folder


def number(file: Path) -> int:
    """The place of a migration: goose goes by the numbers that the names begin with."""
    return int(file.name.partition("_")[0])


def statements(migration: str) -> list[str]:
    """What a migration does on the way up: goose's comments say which part that is, and which statements belong
    together."""
    up = re.split(r"^-- \+goose (?:Up|Down)$", migration, flags=re.MULTILINE)[1]
    made: list[str] = []
    for part in re.split(r"^-- \+goose Statement(?:Begin|End)$", up, flags=re.MULTILINE):
        # One at a time: an index that is made concurrently stands in no transaction.
        made += [part] if "$$" in part else [one for one in part.split(";")]
    return [one for one in made if re.sub(r"--.*", "", one).strip()]


@pytest.fixture(scope="module")
def service(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service's address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {f"MF_METADATA_DB_{name}": value for name, value in {**DATABASE, "HOST": str(database)}.items()}
    log = tmp_path_factory.mktemp("service") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SERVICE / "venv" / "bin" / "python", "-m", "services.metadata_service.server"],
            cwd=SERVICE / "source",
            env={"PATH": os.defpath, **settings, "MF_METADATA_PORT": str(port), "MF_METADATA_HOST": "127.0.0.1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(address), process, log)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def answers(address: str) -> bool:
    """Whether the service is there."""
    try:
        with urllib.request.urlopen(f"{address}/ping", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[Any]", log: Path) -> None:
    """Wait while a process works towards something."""
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        time.sleep(0.1)
    pytest.fail(f"it did not come to it within two minutes: {log.read_text(errors='replace')[-3000:]}")


def listed(address: str, path: str) -> list[dict[str, Any]]:
    """What the service lists."""
    with urllib.request.urlopen(f"{address}/flows/SharedFlow/{path}", timeout=30) as response:
        entries: list[dict[str, Any]] = json.load(response)
    return entries


def test_three_machines_share_a_stage_and_resume_from_mirrored_checkpoints(
    service: str, database: Path, s3: None, s3_server: dict[str, str], tmp_path: Path
) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="shared")
    journal = tmp_path / "journal"

    def start(machine: str) -> "subprocess.Popen[bytes]":
        home = tmp_path / machine
        home.mkdir()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("METAFLOW_", "LONGHAUL_"))},
            **s3_server,
            "PYTHONPATH": str(ROOT),
            "METAFLOW_HOME": str(home),
            "METAFLOW_USER": machine,
            "METAFLOW_SERVICE_URL": service,
            "METAFLOW_DATASTORE_SYSROOT_S3": "s3://shared/metaflow",
            "METAFLOW_S3_ENDPOINT_URL": s3_server["AWS_ENDPOINT_URL_S3"],
            "LONGHAUL_HOME": str(home),
            "STORE": STORE,
            "JOURNAL": str(journal),
        }
        options = ["--no-pylint", "--quiet", "--metadata", "service", "--datastore", "s3"]
        with (tmp_path / f"{machine}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, FLOW, *options, "run"],
                cwd=home,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def mirrored() -> bool:
        return client.list_objects_v2(Bucket="shared", Prefix="store/checkpoints/").get("KeyCount", 0) >= 5

    first = start("first")
    wait_until(mirrored, first, tmp_path / "first.log")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = len(journal.read_text().splitlines())
    assert 0 < done < 60, "it was killed in the middle"
    for machine in ("second", "third"):
        assert start(machine).wait(120) == 0, (tmp_path / f"{machine}.log").read_text(errors="replace")[-3000:]
    assert "overlap" not in journal.read_text()
    began = re.search(r"began at (\d+), reused from None", (tmp_path / "second.log").read_text())
    assert began is not None and 0 < int(began[1]) <= done, "it resumed from what the first had mirrored"
    assert f"began at {began[1]}, reused from second" in (tmp_path / "third.log").read_text()

    runs = {run["user_name"]: run["run_number"] for run in listed(service, "runs")}
    assert runs.keys() == {"first", "second", "third"}
    for machine, expected in (("first", []), ("second", ["True"]), ("third", ["True"])):
        (task,) = listed(service, f"runs/{runs[machine]}/steps/train/tasks")
        metadata = listed(service, f"runs/{runs[machine]}/steps/train/tasks/{task['task_id']}/metadata")
        assert [one["value"] for one in metadata if one["field_name"] == "attempt_ok"] == expected
    with psycopg.connect(host=str(database), user="longhaul", dbname="postgres") as connection:
        assert connection.execute("SELECT count(*) FROM runs_v3 WHERE flow_id = 'SharedFlow'").fetchone() == (3,)
