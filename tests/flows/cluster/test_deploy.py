"""What `longhaul deploy` compiles and packs. Nothing is sent anywhere; no cluster is at hand."""

import copy
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cluster.argo_create import ChangedObjects
from flows.cluster.multi_node_steps import STEPS_ON_NODES
from flows.cluster.plan import TURNS, CannotDeploy, check_shipped, exclusive_pools
from flows.cluster.workflow_changes import RUN, STEPS, changed, changes_for
from flows.topology import STAGES
from infra.stages.checkpoint_mirror import LAST_S
from infra.stages.code_digest import reached_code
from tests.flows.cluster import argo
from tests.flows.cluster.deployments import (
    FOUR_NODES,
    ON_CLUSTER,
    ROOT,
    SANDBOX,
    WORKFLOW,
    compile_flow,
    containers,
    jobsets,
    recipe_with,
)

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def one_node(folder: Path) -> dict[str, dict[str, Any]]:
    """The chain for one node of eight GPUs."""
    return compile_flow(recipe_with(*ON_CLUSTER), "post_train.py", folder / "one")


@pytest.fixture(scope="module")
def four_nodes(folder: Path) -> dict[str, dict[str, Any]]:
    """The chain for four nodes: one trains, three generate."""
    every_stage = ("engine.context=2048", "reward_models={}", "long_cot_paths={max_response_tokens: 96}")
    recipe = recipe_with(*ON_CLUSTER, *FOUR_NODES, *every_stage, size="medium")
    return compile_flow(recipe, "post_train.py", folder / "four")


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> dict[str, dict[str, Any]]:
    return compile_flow(recipe_with(*ON_CLUSTER), "evaluate.py", folder / "evaluation")


@pytest.mark.parametrize("which", ["one_node", "four_nodes", "evaluation"])
def test_argo_would_take_what_is_compiled(which: str, request: pytest.FixtureRequest) -> None:
    documents = request.getfixturevalue(which)
    argo.check(documents["WorkflowTemplate"], "argo-workflows.json", f"{WORKFLOW}.WorkflowTemplate")
    if which != "evaluation":
        argo.check(documents["CronWorkflow"], "argo-workflows.json", f"{WORKFLOW}.CronWorkflow")
    else:
        sensor = copy.deepcopy(documents["Sensor"])
        # Metaflow gives the container a name, which Argo Events has no field for and drops.
        assert sensor["spec"]["template"]["container"].pop("name") == "main"
        argo.check(sensor, "argo-events.json", "io.argoproj.events.v1alpha1.Sensor")


def test_a_field_that_argo_does_not_have_is_seen(one_node: dict[str, dict[str, Any]]) -> None:
    template = {**one_node["WorkflowTemplate"]}
    template["spec"] = {**template["spec"], "scheduel": "0 3 * * 1"}
    with pytest.raises(Exception, match="scheduel"):
        argo.check(template, "argo-workflows.json", f"{WORKFLOW}.WorkflowTemplate")


def test_jobset_would_take_what_stages_on_several_nodes_make(four_nodes: dict[str, dict[str, Any]]) -> None:
    assert len(jobsets(four_nodes["WorkflowTemplate"])) == len(STEPS_ON_NODES)


def test_a_stage_that_the_recipe_leaves_out_waits_for_no_gpu(one_node: dict[str, dict[str, Any]]) -> None:
    template = argo.templates(one_node["WorkflowTemplate"])["reward-models"]
    assert "nvidia.com/gpu" not in template["container"]["resources"]["limits"] and not template.get("tolerations")


@pytest.mark.parametrize(
    ("which", "kind"),
    [
        ("one_node", "WorkflowTemplate"),
        ("one_node", "CronWorkflow"),
        ("four_nodes", "WorkflowTemplate"),
        ("evaluation", "Sensor"),
    ],
)
def test_what_is_compiled_changes_only_with_intent(which: str, kind: str, request: pytest.FixtureRequest) -> None:
    """UPDATE_GOLDEN=1 writes the files again."""
    settled = argo.settled(request.getfixturevalue(which)[kind])
    if which == "four_nodes":
        # One stage of several nodes stands for the others.
        settled["spec"]["templates"] = [one for one in settled["spec"]["templates"] if one["name"].startswith("rl")]
    path = GOLDEN / f"{which}-{kind.lower()}.yaml"
    if "UPDATE_GOLDEN" in os.environ:
        path.write_text(yaml.safe_dump(settled, sort_keys=True, width=120, allow_unicode=True), encoding="utf-8")
    assert settled == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_no_test_endpoint_can_ship(one_node: dict[str, dict[str, Any]], evaluation: dict[str, dict[str, Any]]) -> None:
    for document in (*one_node.values(), *evaluation.values()):
        check_shipped(document)
    (port,) = re.findall(r":(\d+)", argo.PROFILE["METAFLOW_ARGO_EVENTS_WEBHOOK_URL"])
    for leak in ("http://127.0.0.1:5000", f"http://localhost:{port}", "moto", "AWS_SECRET_ACCESS_KEY", "[::1]"):
        with pytest.raises(CannotDeploy, match=re.escape(leak.split("/")[-1].split(":")[0] or "::1")):
            check_shipped({"kind": "Sensor", "metadata": {"name": "x"}, "spec": [{"a": leak}]})


def test_pods_have_no_privileges_and_know_that_they_are_pods(one_node: dict[str, dict[str, Any]]) -> None:
    steps = [one for one in containers(one_node["WorkflowTemplate"]) if one["name"] != "main"]
    assert len(steps) == 14
    for container in steps:
        security = argo.without_nothing(container["securityContext"])
        assert security == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "allowPrivilegeEscalation": False,
        }
        environment = {one["name"]: one.get("value") for one in container["env"]}
        assert environment["LONGHAUL_CLUSTER"] == "1" and environment["LONGHAUL_SANDBOX"] == SANDBOX
        assert container["envFrom"][0]["secretRef"]["name"] == "longhaul-tokens"


def test_each_stage_gets_the_nodes_that_the_size_says(one_node: dict[str, dict[str, Any]]) -> None:
    templates = argo.templates(one_node["WorkflowTemplate"])
    rl, data, report = templates["rl"], templates["start"], templates["report"]
    assert rl["nodeSelector"] == {"longhaul/pool": "train"}
    assert rl["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert rl["container"]["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert {"name": "dhsm", "emptyDir": {"medium": "Memory", "sizeLimit": "262144Mi"}} in rl["volumes"]
    assert data["nodeSelector"] == {"longhaul/pool": "cpu"} and not data["container"]["resources"]["limits"]
    assert report["container"]["resources"]["requests"]["cpu"] == "1" and not report["tolerations"]
    for template in (rl, data, report):
        assert template["metadata"]["labels"]["longhaul/sandbox-client"] == "true"


def test_stages_that_generate_run_on_spot_nodes_and_are_tried_more_often(
    four_nodes: dict[str, dict[str, Any]],
) -> None:
    templates = argo.templates(four_nodes["WorkflowTemplate"])
    pods = {
        name: argo.jobset(templates[f"{name}-on-nodes"])["spec"]["replicatedJobs"][1]["template"]["spec"]["template"]
        for name in ("curation", "rl")
    }
    assert pods["curation"]["spec"]["nodeSelector"] == {"longhaul/pool": "rollout"}
    assert pods["rl"]["spec"]["nodeSelector"] == {"longhaul/pool": "train"}
    assert templates["curation-on-nodes"]["retryStrategy"]["limit"] == 4
    assert templates["rl-on-nodes"]["retryStrategy"]["limit"] == 1
    (container,) = pods["rl"]["spec"]["containers"]
    assert container["resources"]["limits"] == {
        "nvidia.com/gpu": "8",
        "vpc.amazonaws.com/efa": "32",
        "hugepages-2Mi": "5120Mi",
    }
    assert "vpc.amazonaws.com/efa" not in pods["curation"]["spec"]["containers"][0]["resources"]["limits"]


def test_runs_of_a_recipe_do_not_overlap(one_node: dict[str, dict[str, Any]]) -> None:
    assert one_node["CronWorkflow"]["spec"]["concurrencyPolicy"] == "Forbid"
    for kind in ("WorkflowTemplate", "CronWorkflow"):
        assert one_node[kind]["metadata"]["name"] == "longhaul-smoke"
    mutex = {"mutexes": [{"name": "longhaul-smoke"}]}
    assert one_node["WorkflowTemplate"]["spec"]["synchronization"] == mutex
    for overlap, policy in (("queue", "Allow"), ("replace", "Replace")):
        recipe = recipe_with(*ON_CLUSTER, f"schedule={{cron: '@daily', overlap: {overlap}}}")
        assert changed(one_node["CronWorkflow"], changes_for(recipe, False))["spec"]["concurrencyPolicy"] == policy


def test_branches_take_turns_in_a_pool_that_holds_one_of_them(four_nodes: dict[str, dict[str, Any]]) -> None:
    held = {
        name: [mutex["name"] for mutex in template["synchronization"]["mutexes"]]
        for name, template in argo.templates(four_nodes["WorkflowTemplate"]).items()
        if "synchronization" in template
    }
    whole_pool = [f"longhaul-pool-train-{turn}" for turn in range(TURNS)]
    for branch in ("shortest", "dpo", "short-rl"):
        assert held[f"{branch}-on-nodes"] == whole_pool
    assert held["rl-on-nodes"] == whole_pool, "another recipe's branches would take its nodes"
    assert not held.keys() & {"start", "report", "rl", "rl-join"}
    # Three nodes of eight: two recipes could hold half each, and none all that it needs.
    assert held["curation-on-nodes"] == [f"longhaul-pool-rollout-{turn}" for turn in range(TURNS)]
    assert exclusive_pools(recipe_with(*ON_CLUSTER, "cluster.pools={train: 16}")) == set()


def started(document: dict[str, Any], to_run: set[str], failing: str = "") -> list[str]:
    """The steps that Argo starts where the first one says that these are to run. Each succeeds but one."""
    steps: list[str] = []

    def run(name: str, inputs: dict[str, str]) -> dict[str, str] | None:
        steps.append(name)
        assert not inputs.get("input-paths", "").endswith("/")
        outputs = {f"{RUN}{step}": "true" if step in to_run else "false" for step in STEPS.values()}
        return None if name == failing else outputs | dict.fromkeys(("task-id", "num-parallel", "task-id-entropy"), "x")

    statuses = argo.walk(document, run)
    assert (statuses["end"] == "Succeeded") == (not failing)
    return steps


ALWAYS = ["start", "report", "end"]


def test_a_workflow_with_nothing_to_do_starts_no_pod_with_gpus(
    one_node: dict[str, dict[str, Any]], four_nodes: dict[str, dict[str, Any]]
) -> None:
    for documents in (one_node, four_nodes):
        template = documents["WorkflowTemplate"]
        assert started(template, set()) == ALWAYS
        pods = [argo.templates(template)[step] for step in ALWAYS]
        assert not any("nvidia.com/gpu" in pod["container"]["resources"]["limits"] for pod in pods)
        assert not any(pod.get("tolerations") or "synchronization" in pod for pod in pods)


@pytest.mark.parametrize(
    ("which", "to_run", "expected"),
    [
        ("one_node", {"dpo"}, ["start", "dpo", "report", "end"]),
        ("one_node", {"curation", "rl"}, ["start", "curation", "rl", "report", "end"]),
        ("one_node", set(STEPS.values()), ["start", *STEPS.values(), "report", "end"]),
        ("four_nodes", {"dpo"}, ["start", "dpo", "dpo-foreach-parallel", "dpo-join", "report", "end"]),
        (
            "four_nodes",
            {"rl", "merge"},
            [
                *("start", "rl", "rl-foreach-parallel", "rl-join", "rl-branches"),
                *("merge", "merge-foreach-parallel", "merge-join", "report", "end"),
            ],
        ),
    ],
)
def test_only_stages_with_something_to_do_get_pods(
    which: str, to_run: set[str], expected: list[str], request: pytest.FixtureRequest
) -> None:
    assert started(request.getfixturevalue(which)["WorkflowTemplate"], to_run) == expected


@pytest.mark.parametrize(("which", "fails"), [("one_node", "rl"), ("four_nodes", "rl-foreach-parallel")])
def test_nothing_is_started_after_a_stage_that_failed(which: str, fails: str, request: pytest.FixtureRequest) -> None:
    steps = started(request.getfixturevalue(which)["WorkflowTemplate"], {"rl", "merge", "dpo"}, fails)
    assert steps[-1] == fails and "start" in steps


def test_an_evaluation_that_is_there_starts_no_pod_with_gpus(evaluation: dict[str, dict[str, Any]]) -> None:
    template = evaluation["WorkflowTemplate"]
    for answer, expected in (("false", ["start", "end"]), ("true", ["start", "evaluate", "end"])):
        steps: list[str] = []

        def run(name: str, inputs: dict[str, str], answer: str = answer, steps: list[str] = steps) -> dict[str, str]:
            steps.append(name)
            return {f"{RUN}evaluate": answer, "task-id": "x"}

        argo.walk(template, run)
        assert steps == expected
    pods = argo.templates(template)
    assert pods["evaluate"]["container"]["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert not pods["start"]["container"]["resources"]["limits"] and not pods["start"]["tolerations"]


def test_pods_have_the_time_that_the_last_copy_of_checkpoints_takes(
    one_node: dict[str, dict[str, Any]], four_nodes: dict[str, dict[str, Any]]
) -> None:
    patch = json.loads(one_node["WorkflowTemplate"]["spec"]["podSpecPatch"])
    assert patch == {"terminationGracePeriodSeconds": 100} and LAST_S < 100
    for one in jobsets(four_nodes["WorkflowTemplate"]):
        for job in one["spec"]["replicatedJobs"]:
            assert job["template"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 100


def test_an_evaluation_follows_its_own_recipe_alone(evaluation: dict[str, dict[str, Any]]) -> None:
    (dependency,) = evaluation["Sensor"]["spec"]["dependencies"]
    pattern = re.search(r"run =~ '(.*)'", dependency["filters"]["exprs"][-1]["expr"])
    assert pattern is not None
    assert re.search(pattern[1], "argo-longhaul-smoke-x7k2p") and re.search(
        pattern[1], "argo-longhaul-smoke-1764547200"
    )
    assert not re.search(pattern[1], "argo-longhaul-smoke-big-x7k2p")


def test_a_schedule_that_is_taken_out_is_deleted_on_the_cluster(
    evaluation: dict[str, dict[str, Any]], folder: Path
) -> None:
    assert "CronWorkflow" not in evaluation
    assert (folder / "evaluation" / "evaluate" / "cronworkflow-longhaul-smoke-evaluate.deleted").exists()


def test_what_a_cluster_is_sent_is_changed_on_the_way(one_node: dict[str, dict[str, Any]]) -> None:
    """As with a dry run, which has another end."""
    sent: list[tuple[str, Any]] = []

    class Objects:
        def create_namespaced_custom_object(self, body: Any, **options: Any) -> None:
            sent.append(("create", body))

        def replace_namespaced_custom_object(self, body: Any, **options: Any) -> None:
            sent.append(("replace", body))

    api = ChangedObjects(Objects(), changes_for(recipe_with(*ON_CLUSTER), False))
    plain = {"kind": "CronWorkflow", "metadata": {"name": "longhaul-smoke"}, "spec": {"schedules": ["@daily"]}}
    api.create_namespaced_custom_object(body=plain, plural="cronworkflows")
    api.replace_namespaced_custom_object(body=plain, plural="cronworkflows", name="longhaul-smoke")
    assert [verb for verb, _ in sent] == ["create", "replace"]
    assert all(body["spec"]["concurrencyPolicy"] == "Forbid" for _, body in sent)
    assert "concurrencyPolicy" not in plain["spec"]


def test_a_workflow_fits_into_one_object_of_kubernetes(four_nodes: dict[str, dict[str, Any]]) -> None:
    # etcd takes 1.5 MB, and the workflow holds what has become of each pod beside the template.
    assert len(json.dumps(four_nodes["WorkflowTemplate"])) < 900_000


def test_what_the_chain_runs_can_be_chosen_when_it_is_submitted(one_node: dict[str, dict[str, Any]]) -> None:
    parameters = {one["name"]: one["value"] for one in one_node["WorkflowTemplate"]["spec"]["arguments"]["parameters"]}
    assert parameters == {
        "from_stage": '""',
        "only": '""',
        "until": '""',
        "select": '""',
        "reuse": '""',
        "fork": '""',
        "force": "false",
    }


def test_a_schedule_of_rl_ends_with_rl(folder: Path) -> None:
    recipe = recipe_with(*ON_CLUSTER, "schedule={cron: '0 3 * * 1', what: rl}")
    template = compile_flow(recipe, "post_train.py", folder / "rl")["WorkflowTemplate"]
    parameters = {one["name"]: one["value"] for one in template["spec"]["arguments"]["parameters"]}
    assert parameters["until"] == '"rl"'


def test_a_failure_is_reported_by_the_pod_that_looks_at_it(one_node: dict[str, dict[str, Any]]) -> None:
    hook = argo.templates(one_node["WorkflowTemplate"])["error-msg-capture-hook"]["container"]
    environment = {one["name"]: one["value"] for one in hook["env"]}
    script = environment["METAFLOW_ARGO_WORKFLOWS_CAPTURE_ERROR_SCRIPT"]
    command = ["bash", "-c", f"{script.replace('python', sys.executable)} --help"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0, "no such option"
    assert script.startswith("python -m flows.cli.notify --webhook LONGHAUL_WEBHOOK --recipe smoke ")
    assert one_node["WorkflowTemplate"]["spec"]["onExit"] == "capture-error-hook-fn-preflight"
    assert hook["envFrom"][0]["secretRef"]["name"] == "longhaul-tokens"


@pytest.fixture(scope="module")
def package(one_node: dict[str, dict[str, Any]], folder: Path) -> Path:
    """The chain's code package, unpacked."""
    place = folder / "package"
    with tarfile.open(folder / "one" / "post_train" / "code-package.tgz") as archive:
        archive.extractall(place, filter="data")
    return place


def test_every_stage_has_the_same_code_in_the_package_as_here(package: Path) -> None:
    """The same digests: a plan here says what runs there."""
    modules = sorted({spec.module for spec in STAGES.values()})
    program = "import json, sys; from infra.stages.code_digest import reached_code\n"
    program += "print(json.dumps({module: reached_code(module).digests for module in sys.argv[1:]}))"
    done = subprocess.run(
        [sys.executable, "-c", program, *modules],
        env={**os.environ, "PYTHONPATH": str(package / ".mf_code")},
        cwd=package,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {module: reached_code(module).digests for module in modules}


def test_the_package_has_all_of_the_project_and_what_the_recipe_names(package: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "flows", "steps", "infra"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    missing = [name for name in tracked if (ROOT / name).is_file() and not (package / ".mf_code" / name).is_file()]
    assert not missing
    assert (package / "steps/nano_world/checkpoint/model.safetensors").is_file(), "the pod looks for it where it stands"
    config = (package / ".mf_meta" / "CONFIG").read_text()
    assert "s3://artifacts/store" in config and SANDBOX in config
