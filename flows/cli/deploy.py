"""`longhaul deploy`: bring a recipe to a cluster, as workflows that Argo runs."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from flows.cli.command import Command
from flows.cli.terminal import config_option, fail, printable, set_option

if TYPE_CHECKING:
    from steps.recipe import Recipe

CHAIN, EVALUATION = "post_train.py", "evaluate.py"
FLOWS = Path(__file__).resolve().parents[1]


@click.command(cls=Command)
@config_option
@set_option
@click.option(
    "--size",
    type=click.Choice(["small", "medium", "large"]),
    help="The nodes of each stage, as in Terraform's sizes; the recipe's `cluster` section overrides them.",
)
@click.option(
    "--dry-run", is_flag=True, help="Compile without sending anything: print the objects, or write them to --out."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the compiled objects.")
def deploy(config_path: str, settings: tuple[str, ...], size: str | None, dry_run: bool, out: Path | None) -> None:
    """Deploy a recipe to a cluster as Argo workflows.

    The cluster is the one in Metaflow's configuration (`longhaul cloud configure`). There are two workflows, the chain
    and the evaluation that follows it, named after the recipe, with the recipe's schedule. Nothing runs before the
    scheduled time or `argo submit --from workflowtemplate/longhaul-RECIPE`.
    """
    from flows.cli.overrides import apply_overrides
    from flows.cluster.plan import (
        check_deployable,
        compile_environment,
        for_evaluation,
        redirected_endpoints,
        with_size,
    )
    from flows.cluster.workflow_changes import workflow_name
    from flows.topology import enabled_steps
    from steps.recipe import check_recipe, load_recipe

    recipe = with_size(load_recipe(Path(config_path)), size)
    recipe = check_recipe(apply_overrides(recipe.model_dump(mode="json"), settings), config_path)
    check_deployable(recipe, enabled_steps(recipe))
    flows = {CHAIN: recipe, EVALUATION: for_evaluation(recipe)}
    if out is not None and not dry_run:
        fail("--out is for what --dry-run compiles: give both, or none")
    if leads := redirected_endpoints(os.environ):
        fail(f"{leads[0]} leads S3 to {os.environ[leads[0]]}, which no pod should use: unset it")
    again = shlex.join(["argo", "submit", "--from", f"workflowtemplate/{workflow_name(recipe)}"])
    environment = compile_environment(recipe, os.environ, again)
    if not dry_run:
        for flow, its_recipe in flows.items():
            _create(its_recipe, flow, environment)
            click.echo(f"deployed: {workflow_name(its_recipe, flow == EVALUATION)}")
        return
    with tempfile.TemporaryDirectory() as place:
        documents = [one for flow, its in flows.items() for one in compiled(its, flow, Path(place), environment)]
        if out is None:
            click.echo(printable(yaml.safe_dump_all(documents, sort_keys=False)))
            return
        out.mkdir(parents=True, exist_ok=True)
        for document in documents:
            path = out / f"{document['kind'].lower()}-{document['metadata']['name']}.yaml"
            path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
            click.echo(str(path))


def compiled(recipe: "Recipe", flow: str, folder: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    """The Kubernetes objects of a flow, with its code package beside them in a folder of the flow's name."""
    from flows.cluster.plan import check_shipped

    place = folder / Path(flow).stem
    place.mkdir(parents=True)
    _flow("argo_recorder.py", [str(place)], recipe, flow, environment)
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(place.glob("*.json"))]
    for document in documents:
        check_shipped(document)
    return documents


def _create(recipe: "Recipe", flow: str, environment: dict[str, str]) -> None:
    """Compile, look at what would be sent, and then send it."""
    with tempfile.TemporaryDirectory() as place:
        compiled(recipe, flow, Path(place), environment)
    _flow("argo_create.py", [], recipe, flow, environment)


def _flow(script: str, arguments: list[str], recipe: "Recipe", flow: str, environment: dict[str, str]) -> None:
    """Run a flow's `argo-workflows create` by a script of flows/cluster. Ends with its error where that fails."""
    from flows.cluster.workflow_changes import changes_for

    its_changes = changes_for(recipe, evaluation=flow == EVALUATION)
    with tempfile.TemporaryDirectory() as place:
        changes = Path(place) / "changes.json"
        changes.write_text(its_changes.model_dump_json(), encoding="utf-8")
        # By its path: with the project's folder on Python's path, Metaflow would pack what an old build says is in it.
        command = [str(FLOWS / "cluster" / script), *arguments, str(changes), str(FLOWS / flow)]
        config = Path(place) / "config.json"
        config.write_text(json.dumps(recipe.model_dump(mode="json")), encoding="utf-8")
        options = ["--no-pylint", "--quiet", "--datastore", "s3", "--metadata", "service", "--config", "config"]
        done = subprocess.run(
            [sys.executable, *command, *options, str(config), "argo-workflows", "--name", its_changes.name, "create"],
            # A container or a service may have no USER, and Metaflow asks for one before a flow can say it.
            env={"METAFLOW_USER": os.environ.get("USER") or "longhaul", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if done.returncode:
        fail(done.stdout.strip())
