"""The lineage page and the scheduler as the platform stack starts them: the very commands, with a read-only root, as
another user, and with moto's S3 as the bucket."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import boto3
import psutil
import pytest

from infra.store import records
from infra.store.open import open_store
from infra.store.records import StageRecord, TagRecord
from tests.flows.made_up_chain import chain, finish
from tests.terraform.scratch import Terraform

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="a pod's view is made by bubblewrap")

ROOT = Path(__file__).parents[2]
HOST, TOKEN, STORE = "runs.example.com", "0123456789abcdef", "s3://artifacts/longhaul/store"
RECIPE = (
    (ROOT / "configs" / "smoke.yaml").read_text(encoding="utf-8")
    + f"""
store: {STORE}
schedule: {{cron: "0 3 * * 1"}}
"""
)


@pytest.fixture(scope="module")
def commands(apart: Terraform, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The command lines of both containers, as Terraform computes them."""
    root = "stacks/platform"
    apart.ready_to_apply(root)
    text = (apart.folder / root / "tests" / "platform.tftest.hcl").read_text(encoding="utf-8")
    cloud = re.search(r"^  cloud = {\n.*?^  }\n", text, re.DOTALL | re.MULTILINE)
    assert cloud is not None
    ingress = f'{{ host = "{HOST}", class = "nginx", namespace = "ingress-nginx" }}'
    page = f'page = {{ image = "registry/longhaul:1", allow_actions = true, ingress = {ingress} }}\n'
    scheduler = f'scheduler = {{ image = "registry/longhaul:1", recipes = {{ nano = {json.dumps(RECIPE)} }} }}\n'
    values = tmp_path_factory.mktemp("services") / "services.tfvars"
    values.write_text(f"{cloud[0]}{page}{scheduler}argo_schedules = false\n", encoding="utf-8")
    done = subprocess.run(
        ["terraform", f"-chdir={apart.folder / root}", "console", f"-var-file={values}"],
        input="jsonencode([local.page_command, local.scheduler_command])\n",
        capture_output=True,
        text=True,
        check=True,
    )
    page_command, scheduler_command = json.loads(json.loads(done.stdout))
    return {"page": page_command, "scheduler": scheduler_command}


@contextmanager
def pod(command: list[str], folder: Path, machine: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A container's command as a process that can write to its home and /tmp alone."""
    for name in ("home", "tmp", "token", "recipes"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "token" / "token").write_text(TOKEN)
    (folder / "recipes" / "nano.yaml").write_text(RECIPE)
    view = ["bwrap", "--ro-bind", "/", "/", "--proc", "/proc", "--dev-bind", "/dev", "/dev", "--die-with-parent"]
    view += ["--unshare-user", "--uid", "10001", "--gid", "10001", "--tmpfs", "/opt", "--tmpfs", "/run"]
    view += ["--tmpfs", "/var/lib", "--bind", str(folder / "tmp"), "/tmp"]
    view += ["--tmpfs", str(ROOT), "--ro-bind", sys.prefix, sys.prefix]
    for part in ("flows", "infra", "steps"):
        view += ["--ro-bind", str(ROOT / part), f"/opt/longhaul/project/{part}"]
    for name, inside in (("token", "/run/secrets/longhaul"), ("recipes", "/run/longhaul")):
        view += ["--ro-bind", str(folder / name), inside]
    view += ["--bind", str(folder / "home"), "/var/lib/longhaul"]
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.defpath]),
        "PYTHONPATH": "/opt/longhaul/project",
        "LONGHAUL_HOME": "/var/lib/longhaul",
        "HOME": "/var/lib/longhaul",
        "PYTHONUNBUFFERED": "1",
        **machine,
    }
    variables = [part for name, value in environment.items() for part in ("--setenv", name, value)]
    process = subprocess.Popen(
        [*view, "--chdir", "/var/lib/longhaul", "--clearenv", *variables, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        # The one inside ends by itself, and bubblewrap with its status.
        for inside in psutil.Process(process.pid).children() if process.poll() is None else ():
            inside.terminate()
        process.communicate(timeout=30)


def first_line(process: "subprocess.Popen[str]", pattern: str) -> str:
    """The first line of a process's output that matches."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return line
    pytest.fail(f"no line has {pattern!r}:\n{''.join(lines)}")


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait while a process works towards something."""
    for _ in range(300):
        if condition():
            return
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.1)
    pytest.fail("it did not come to it within 30 s")


def answer(address: str, host: str, token: str | None) -> tuple[int, str]:
    """Status and text of a page."""
    headers = {"Host": host} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def keys() -> set[str]:
    """What lies in the bucket."""
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket="artifacts")
    return {one["Key"] for page in pages for one in page.get("Contents", ())}


def test_the_page_shows_the_store_to_whoever_has_the_token_and_writes_nothing(
    commands: dict[str, list[str]], s3: None, s3_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.chain.HOME", tmp_path / "own")
    boto3.client("s3").create_bucket(Bucket="artifacts")
    made = finish(
        chain(Path("s3:/artifacts/longhaul/store"), f"store={STORE}"), tmp_path / "made", stages=["data", "import"]
    )
    before = keys()
    command = ["0" if word == "8600" else word for word in commands["page"]]
    with pod(command, tmp_path / "page", s3_server) as process:
        address = first_line(process, "the lineage page is at").split()[5]
        assert answer(f"{address}/static/style.css", "localhost", None)[0] == 200, "the probe's request"
        status, page = answer(f"{address}/runs", HOST, TOKEN)
        assert status == 200 and made["import"].run in page
        assert made["import"].run not in answer(f"{address}/runs", HOST, None)[1]
        assert answer(f"{address}/runs", "elsewhere.example.com", TOKEN)[0] == 400
    assert keys() == before, "without an action the page needs no right to write"


def test_setting_a_tag_writes_records_alone(s3: None, s3_server: dict[str, str], tmp_path: Path) -> None:
    """What the page may write where it may act (terraform/modules/identity/policies.tf)."""
    before = keys()
    (model,) = [
        one.outputs["model"] for one in records.read(open_store(STORE), StageRecord, "stages") if one.stage == "import"
    ]
    command = ["python", "-m", "flows.cli", "tag", model.digest, "candidate", f"--store={STORE}"]
    with pod(command, tmp_path / "tag", s3_server) as process:
        first_line(process, "candidate")
        process.wait(30)
    added = keys() - before
    assert added and all(key.startswith("longhaul/store/records/") for key in added)
    assert [one.model for one in records.read(open_store(STORE), TagRecord, "tags/candidate")] == [model]


def test_the_scheduler_waits_for_its_recipes_times(
    commands: dict[str, list[str]], s3_server: dict[str, str], tmp_path: Path
) -> None:
    with pod(commands["scheduler"], tmp_path / "scheduler", s3_server) as process:
        state = tmp_path / "scheduler" / "home" / "schedule" / "state.json"
        wait_until(lambda: state.exists() and '"smoke"' in state.read_text(), process)
    assert process.returncode == 0, "it ends as it should when its pod does"
