"""`longhaul deploy` as it is called: the names of its workflows, and the recipes that come with it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.cli.overrides import apply_overrides
from flows.cluster.plan import check_deployable, nodes_of, with_size
from flows.cluster.workflow_changes import workflow_name
from flows.topology import enabled_steps
from infra.store.evaluation_stages import evaluated_stage
from steps.recipe import check_recipe, load_recipe
from tests.flows.cluster import argo
from tests.flows.cluster.deployments import (
    FOUR_NODES,
    ON_CLUSTER,
    ROOT,
    WORKFLOW,
    compile_flow,
    containers,
    jobsets,
    recipe_with,
    run_deploy,
)


@pytest.mark.parametrize(
    ("name", "size"), [("qwen-1.5b-8gpu", "small"), ("qwen-7b-4nodes", "medium"), ("report", "large")]
)
def test_the_large_recipes_can_be_deployed(name: str, size: str, tmp_path: Path) -> None:
    recipe = with_size(load_recipe(ROOT / "configs" / f"{name}.yaml"), size)
    assert recipe.data.sources
    files = [f"{key}.path=s3://artifacts/data/{one.name}.jsonl" for key, one in recipe.data.sources.by_key().items()]
    recipe = check_recipe(apply_overrides(recipe.model_dump(mode="json"), [*ON_CLUSTER, *files]), name)
    stages = enabled_steps(recipe)
    check_deployable(recipe, stages)
    template = compile_flow(recipe, "post_train.py", tmp_path)["WorkflowTemplate"]
    argo.check(template, "argo-workflows.json", f"{WORKFLOW}.WorkflowTemplate")
    # A model is evaluated by the step of the stage that made it.
    steps = [stage for stage in stages if not evaluated_stage(stage)]
    assert len(jobsets(template)) == sum(nodes_of(recipe, stage) > 1 for stage in steps)
    assert {one["resources"]["limits"].get("nvidia.com/gpu") for one in containers(template)} == {"8", None}


def test_the_endpoint_of_a_test_s_server_is_refused(s3_server: dict[str, str]) -> None:
    answer = run_deploy(*ON_CLUSTER, environment=s3_server)
    assert answer.exit_code == 1
    assert f"AWS_ENDPOINT_URL_S3 leads S3 to {s3_server['AWS_ENDPOINT_URL_S3']}" in answer.output


def test_recipes_have_workflows_of_their_own() -> None:
    names = ("nano", "nano-evaluate", "qwen-7b-4nodes", "a.b", "a_b", "a-b", "x" * 60, "x" * 61)
    recipes = [recipe_with(f"name={name}") for name in names]
    own = [workflow_name(one) for one in recipes] + [workflow_name(one, evaluation=True) for one in recipes]
    assert len(set(own)) == len(own) and own[0] == "longhaul-nano"
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*[a-z0-9]", name) and len(name) <= 45 for name in own)
    documented = workflow_name(load_recipe(ROOT / "configs" / "qwen-1.5b-8gpu.yaml"))
    assert f"workflowtemplate/{documented} " in (ROOT / "docs" / "cluster.md").read_text()


def test_the_evaluation_follows_a_chain_on_several_nodes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = run_deploy(*ON_CLUSTER, *FOUR_NODES, out=out, size="medium")
    assert answer.exit_code == 0, answer.output
    name = "longhaul-smoke-evaluate"
    assert {f"sensor-{name}.yaml", f"workflowtemplate-{name}.yaml"} <= {path.name for path in out.iterdir()}
    template = yaml.safe_load((out / f"workflowtemplate-{name}.yaml").read_text(encoding="utf-8"))
    assert {one["resources"]["limits"].get("nvidia.com/gpu") for one in containers(template)} == {"8", None}


def test_without_a_user_or_a_profile_it_asks_for_the_profile_alone(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("USER", "METAFLOW_"))}
    requested = ["--size", "small", "--set", "store=s3://bucket/store", "--set", "cluster.sandbox=http://sandbox:8100"]
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "deploy", *requested, "--dry-run"],
        env={**environment, "METAFLOW_HOME": str(tmp_path), "LONGHAUL_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "METAFLOW_DATASTORE_SYSROOT_S3" in done.stdout + done.stderr
