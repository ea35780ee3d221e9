"""Both stacks applied with stand-in providers, one feeding the other, up to the profile that Metaflow reads.

What is simulated has made-up ids and addresses; that the stacks fit together, settle, and end in a profile is not.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.cli.cloud import cloud
from tests.terraform.scratch import SOURCE, Terraform, copy_to

pytestmark = pytest.mark.slow

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory, terraform: Terraform) -> Terraform:
    """A copy of its own: the state that is left here would be in other tests' plans."""
    return copy_to(tmp_path_factory.mktemp("applied") / "terraform")


@pytest.fixture(scope="module")
def cloud_plans(applied: Terraform, mine: Path) -> dict[str, dict[str, Any]]:
    """The medium size, applied: its first plan, and the plan after it."""
    root = "stacks/cloud"
    variables = [f"-var-file={applied.folder / 'sizes' / 'medium.tfvars'}", f"-var-file={mine}"]
    applied.ready_to_apply(root)
    first = applied.plan(root, *variables)
    applied.apply(root)
    return {"first": first, "applied": applied.plan(root, *variables)}


@pytest.fixture(scope="module")
def platform_plans(applied: Terraform, cloud_plans: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The platform on top of it, the same way."""
    root = "stacks/platform"
    values = json.loads(applied.run("stacks/cloud", "output", "-json", "platform_input").stdout)
    # What a simulation cannot know, and the platform stack rightly refuses.
    values["cloud"]["cluster"] |= {"endpoint": "https://simulated.eks.amazonaws.com", "certificate_authority": "c2lt"}
    values["cloud"] |= {"registry": REGISTRY, "repositories": {"gpu": f"{REGISTRY}/longhaul/gpu"}}
    ingress = {"host": "runs.example.com", "class": "nginx", "namespace": "ingress-nginx", "tls_secret": "runs-tls"}
    values["page"] = {"image": f"{REGISTRY}/longhaul/cpu:0.1.0-services", "ingress": ingress}
    (applied.folder / root / "cloud.auto.tfvars.json").write_text(json.dumps(values), encoding="utf-8")
    applied.ready_to_apply(root)
    first = applied.plan(root)
    applied.apply(root)
    return {"first": first, "applied": applied.plan(root)}


def test_what_was_applied_is_not_changed_by_the_next_plan(
    cloud_plans: dict[str, dict[str, Any]], platform_plans: dict[str, dict[str, Any]]
) -> None:
    for plan in (cloud_plans["applied"], platform_plans["applied"]):
        changes = {change["address"]: change["change"]["actions"] for change in plan["resource_changes"]}
        assert {address for address, actions in changes.items() if actions not in (["no-op"], ["read"])} == set()


def test_the_platform_becomes_a_profile(
    applied: Terraform, platform_plans: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLOW_HOME", str(tmp_path))
    folder = applied.folder / "stacks" / "platform"
    result = CliRunner().invoke(cloud, ["configure", "--terraform", str(folder), "--profile", "simulated"])
    assert result.exit_code == 0, result.output
    profile = json.loads((tmp_path / "config_simulated.json").read_text(encoding="utf-8"))
    assert profile["METAFLOW_DATASTORE_SYSROOT_S3"] == "s3://longhaul-artifacts-123456789012/longhaul/metaflow"
    assert profile["METAFLOW_KUBERNETES_CONTAINER_IMAGE"] == "longhaul/gpu:0.1.0"


@pytest.mark.skipif(shutil.which("checkov") is None, reason="checkov is not on PATH; `make test` brings it")
@pytest.mark.parametrize("stack", ["cloud", "platform"])
def test_checkov_finds_nothing_that_is_not_explained(
    stack: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A first plan knows no key yet, and a simulated resource has made-up values: a finding counts if both have it."""
    actual = []
    for name, plan in request.getfixturevalue(f"{stack}_plans").items():
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(plan), encoding="utf-8")
        command = ["checkov", "--config-file", str(SOURCE / ".checkov.yaml"), "-f", str(file), "-o", "json"]
        done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, check=False, cwd=tmp_path)
        report = json.loads(done.stdout)
        assert report["summary"]["passed"] > 50, report["summary"]
        checks = report["results"]["failed_checks"]
        actual.append({f"{check['check_id']} {check['resource']}: {check['check_name']}" for check in checks})
    assert actual[0] & actual[1] == set()


def test_all_is_taken_down_in_the_order_that_works_and_what_holds_data_is_named(
    applied: Terraform, platform_plans: dict[str, dict[str, Any]], mine: Path
) -> None:
    """The last test here: nothing is left after it."""
    variables = [f"-var-file={applied.folder / 'sizes' / 'medium.tfvars'}", f"-var-file={mine}"]
    answers = {f"TF_CLI_ARGS_{verb}": "-auto-approve -no-color" for verb in ("apply", "destroy")}
    done = subprocess.run(
        ["sh", str(applied.folder / "destroy.sh"), *variables],
        env={**os.environ, **answers, "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps = [
        "database longhaul-metaflow: deleted, its last snapshot stays (longhaul-metaflow-final-",
        "kubernetes_deployment_v1.page[0]: Destruction complete",
        # A cluster or a database that is protected cannot be destroyed: the protection goes first, and nothing else.
        "2 changed, 0 destroyed",
        "module.cluster.aws_eks_cluster.this: Destruction complete",
        "bucket longhaul-artifacts-123456789012: stops the destroy while anything is in it",
        "Left: the database's last snapshot",
    ]
    places = [done.stdout.rfind(step) if step.startswith("bucket") else done.stdout.find(step) for step in steps]
    assert places == sorted(places) and places[0] >= 0, dict(zip(steps, places, strict=True))
    for root in ("stacks/platform", "stacks/cloud"):
        assert applied.run(root, "state", "list").stdout == ""
