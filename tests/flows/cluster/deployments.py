"""What the tests of deployments have in common."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from flows.cli.deploy import compiled, deploy
from flows.cli.overrides import apply_overrides
from flows.cluster.plan import compile_environment, with_size
from steps.recipe import Recipe, check_recipe, load_recipe
from tests.flows.cluster import argo

ROOT = Path(__file__).parents[3]
SANDBOX = "http://longhaul-sandbox.longhaul-sandbox:8100"
ON_CLUSTER = (
    "store=s3://artifacts/store",
    f"cluster.sandbox={SANDBOX}",
    "schedule={cron: '0 3 * * 1', timezone: Europe/Berlin}",
    "notify={webhook: LONGHAUL_WEBHOOK}",
    "cluster.secrets=[longhaul-tokens]",
)
WORKFLOW = "io.argoproj.workflow.v1alpha1"
FOUR_NODES = ("engine.workers=24", "trainer.ranks=8")


def recipe_with(*settings: str, size: str | None = "small") -> Recipe:
    recipe = with_size(load_recipe(ROOT / "configs" / "smoke.yaml"), size)
    return check_recipe(apply_overrides(recipe.model_dump(mode="json"), settings), "test")


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "METAFLOW_"))}


def compile_flow(recipe: Recipe, flow: str, folder: Path) -> dict[str, dict[str, Any]]:
    own = {**clean_environment(), **argo.PROFILE, "LONGHAUL_HOME": str(folder / "home")}
    documents = compiled(recipe, flow, folder, compile_environment(recipe, own, "argo submit"))
    return {one["kind"]: one for one in documents}


def containers(document: Any) -> Iterator[dict[str, Any]]:
    for template in document["spec"]["templates"]:
        if "container" in template:
            yield template["container"]
        if "resource" in template:
            for job in argo.jobset(template)["spec"]["replicatedJobs"]:
                yield from job["template"]["spec"]["template"]["spec"]["containers"]


def run_deploy(
    *settings: str, environment: dict[str, str] | None = None, out: Path | None = None, size: str = "small"
) -> Result:
    arguments = ["--config", str(ROOT / "configs" / "smoke.yaml"), "--size", size, "--dry-run"]
    arguments += [part for one in settings for part in ("--set", one)]
    arguments += ["--out", str(out)] if out is not None else []
    removed = {name: None for name in os.environ if name.startswith(("AWS_", "METAFLOW_"))}
    return CliRunner().invoke(deploy, arguments, env={**removed, **argo.PROFILE, **(environment or {})})


def jobsets(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the stages on several nodes; each is checked."""
    results = [argo.jobset(one) for one in argo.templates(document).values() if "resource" in one]
    for jobset in results:
        # What Argo fills in is a word here, where JobSet wants the API's own kinds of names.
        argo.check(jobset, "jobset.json")
        assert [job["name"] for job in jobset["spec"]["replicatedJobs"]] == ["control", "worker"]
    return results
