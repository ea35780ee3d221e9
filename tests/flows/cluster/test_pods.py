"""The commands of a deployed workflow's pods, run as processes: they have nothing in common but S3."""

import json
import shutil
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from flows.cli.deploy import compiled
from flows.cluster.plan import compile_environment
from infra.store import records
from infra.store.open import open_store
from infra.store.records import StageRecord
from tests.flows.cluster import argo
from tests.flows.cluster.deployments import clean_environment, recipe_with
from tests.flows.cluster.pods import WORKFLOW, run_pod

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="a pod's view is made by bubblewrap")

SMALL = (
    "cluster={environment: {LONGHAUL_SANDBOX: auto}}",
    "data.nano_world={train_problems: 12, test_problems: 6, sft_examples: 48, long_cot_paths: 12}",
    "evaluation={samples: 1, max_response_tokens: 16}",
    "vanilla_sft.expansion.problems=0",
)


@pytest.fixture
def events() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Argo Events' webhook: its address, and what was sent there."""
    sent: list[dict[str, Any]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", sent
    server.shutdown()


class Workflow:
    """A compiled chain whose pods are run one by one, in the order of its graph."""

    def __init__(self, folder: Path, machine: dict[str, str], *settings: str) -> None:
        self.folder, self.machine = folder, machine
        self.store = f"s3://artifacts/{uuid.uuid4().hex}"
        recipe = recipe_with(f"store={self.store}", *SMALL, *settings, size=None)
        own = {**clean_environment(), **argo.PROFILE, "LONGHAUL_HOME": str(folder / "home")}
        (document,) = compiled(recipe, "post_train.py", folder / "compiled", compile_environment(recipe, own, ""))
        self.document = document
        self.templates = argo.templates(document)
        (address,) = {
            one["value"] for one in self.templates["start"]["container"]["env"] if one["name"] == "METAFLOW_CODE_URL"
        }
        bucket, _, key = address.removeprefix("s3://").partition("/")
        self.client = boto3.client("s3")
        self.client.create_bucket(Bucket=bucket)
        self.client.upload_file(str(folder / "compiled" / "post_train" / "code-package.tgz"), bucket, key)

    def submit(self, name: str, **parameters: str) -> list[str]:
        """Run the workflow's pods as Argo would start them, one after the other. Returns the steps that had any."""
        started: list[str] = []

        def start(step: str, inputs: dict[str, str]) -> dict[str, str]:
            started.append(step)
            inputs = {key: value.replace("{{workflow.name}}", name) for key, value in inputs.items()}
            chosen = {key: json.dumps(value) for key, value in parameters.items()}
            if "dag" in self.templates[step]:
                return self.run_on_nodes(name, step.removesuffix("-foreach-parallel"), inputs, chosen)
            return self._run(name, step, self.templates[step]["container"], inputs, chosen, {})

        statuses = argo.walk(self.document, start)
        assert set(statuses.values()) <= {"Succeeded", "Skipped", "Omitted"}
        return started

    def run_on_nodes(
        self, workflow: str, step: str, inputs: dict[str, str], parameters: dict[str, str]
    ) -> dict[str, str]:
        """Run the pods of a step's JobSet, at the same time."""
        template = self.templates[f"{step}-on-nodes"]
        (task,) = self.templates[f"{step}-foreach-parallel"]["dag"]["tasks"]
        inputs = {name: value for name, value in inputs.items() if value != "{{item}}"}
        assert {one["name"] for one in task["arguments"]["parameters"]} >= inputs.keys() - {"root-input-path"}
        outputs = {name: inputs[name] for name in ("num-parallel", "task-id-entropy")}
        inputs |= {"retryCount": "0", "jobset-name": "js", "workerCount": str(int(inputs["num-parallel"]) - 1)}
        jobs = argo.manifest(template)["spec"]["replicatedJobs"]
        node = {"MF_MASTER_ADDR": "127.0.0.1", "TASK_ID_SUFFIX": "0", "MF_WORKER_REPLICA_INDEX": "0"}
        with ThreadPoolExecutor(len(jobs)) as pool:
            running = [
                pool.submit(self._run, workflow, f"{step}-{job['name']}", container, inputs, parameters, node)
                for job in jobs
                for container in job["template"]["spec"]["template"]["spec"]["containers"]
            ]
            for one in running:
                one.result()
        return outputs

    def _run(
        self,
        workflow: str,
        name: str,
        container: dict[str, Any],
        inputs: dict[str, str],
        parameters: dict[str, str],
        node: dict[str, str],
    ) -> dict[str, str]:
        defaults = {
            "from_stage": '""',
            "fork": '""',
            "only": '""',
            "until": '""',
            "select": '""',
            "reuse": '""',
            "force": "false",
        }
        folder = self.folder / name
        done = run_pod(container, workflow, inputs, {**defaults, **parameters}, {**self.machine, **node}, folder)
        assert done.returncode == 0, f"{name}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        declared = self.templates.get(name, {}).get("outputs", {}).get("parameters", ())
        outputs = {one["name"]: (folder / "out" / Path(one["valueFrom"]["path"]).name).read_text() for one in declared}
        shutil.rmtree(folder)  # the next pod finds nothing of it
        return outputs


@pytest.fixture
def machine(s3: None, s3_server: dict[str, str], events: tuple[str, list[dict[str, Any]]]) -> dict[str, str]:
    """What a node and an image say to pods."""
    webhook = {"METAFLOW_ARGO_EVENTS_WEBHOOK_URL": events[0]}
    return {**s3_server, **webhook, "METAFLOW_S3_ENDPOINT_URL": s3_server["AWS_ENDPOINT_URL_S3"]}


IMPORT = ["import-checkpoint", "import-checkpoint-foreach-parallel", "import-checkpoint-join"]


@pytest.mark.slow
@pytest.mark.timeout(1500)  # 15 processes, one after the other
def test_every_pod_does_its_part_and_they_pass_the_chain_on_through_s3_alone(
    tmp_path: Path, machine: dict[str, str], events: tuple[str, list[dict[str, Any]]]
) -> None:
    """The import is on two nodes: the second serves the first, and what they make is one stage. A second workflow has
    nothing to do, and a third one stage."""
    workflow = Workflow(tmp_path, machine, "cluster.stages={import: {nodes: 2}}")
    assert workflow.submit(WORKFLOW, until="vanilla_sft") == ["start", *IMPORT, "vanilla-sft", "report", "end"]
    store = open_store(workflow.store)
    stages = list(records.read(store, StageRecord, "stages"))
    actual = {one.stage: one for one in stages}
    assert len(stages) == len(actual), "a stage ran more than once"
    assert set(actual) == {"data", "import", "evaluate/import", "vanilla_sft", "evaluate/vanilla_sft"}
    assert actual["vanilla_sft"].inputs["model"] == actual["import"].outputs["model"]
    for record in actual.values():
        assert record.run.endswith(f"argo-{WORKFLOW}")
        for ref in record.outputs.values():
            store.verify(ref)
    sent = [one["payload"] for one in events[1]]
    assert sent[0]["name"] == "metaflow.PostTrain.start"
    # What the sensor of the evaluation waits for.
    assert sent[-1]["name"] == "metaflow.PostTrain.end" and sent[-1]["auto-generated-by-metaflow"] == "True"
    assert workflow.submit(f"{WORKFLOW}-2", until="vanilla_sft") == ["start", "report", "end"]
    (again,) = {one.run for one in records.read(store, StageRecord, "stage-runs")} - {stages[0].run}
    reused = {one.stage: one for one in records.read(store, StageRecord, f"stage-runs/{again}")}
    assert reused.keys() == actual.keys() and {one.reused_from for one in reused.values()} == {stages[0].run}
    assert workflow.submit(f"{WORKFLOW}-3", until="curation") == ["start", "curation", "report", "end"]
    (curation,) = [one for one in records.read(store, StageRecord, "stages") if one.stage == "curation"]
    assert curation.inputs["model"] == actual["vanilla_sft"].outputs["model"]
