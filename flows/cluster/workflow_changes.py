"""What Metaflow does not say in the workflows that it compiles, and a recipe needs: names of its own, one run at a
time, branches that a pool has room for, time to end.

`longhaul deploy` changes the objects on their way to Kubernetes (flows/cluster/argo_create.py), and in what a dry run
writes (flows/cluster/argo_recorder.py).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from flows.cluster.plan import exclusive_pools, nodes_of
from flows.topology import enabled_stages
from infra.cluster.config import ClusterConfig
from infra.stages.checkpoint_mirror import LAST_S
from steps.recipe import Recipe

POLICIES = {"skip": "Forbid", "queue": "Allow", "replace": "Replace"}
"""Argo's names of `schedule.overlap`. With Allow a second workflow waits for the first: they share a mutex."""
GRACE_S = round(LAST_S) + 10
"""Seconds that a pod has to end: the last copy of its checkpoints, and what follows."""
LONGEST = 27
"""Characters of a recipe's name in names of workflows: with what stands around it, Argo takes 45."""
EVALUATION = "-evaluate"
"""What a recipe's evaluation has after the name of its workflow."""
STEPS = {
    "import": "import-checkpoint",
    "vanilla_sft": "vanilla-sft",
    "curation": "curation",
    "long_cot_paths": "long-cot-paths",
    "long_cot_sft": "long-cot-sft",
    "reward_models": "reward-models",
    "rl": "rl",
    "long2short/merge": "merge",
    "long2short/shortest": "shortest",
    "long2short/dpo": "dpo",
    "long2short/rl": "short-rl",
}
"""By stage, its step's name in the workflow."""


class WorkflowChanges(BaseModel):
    """What is changed in the objects of one flow."""

    model_config = ConfigDict(extra="forbid")

    name: str
    """The workflow's."""
    chain: str
    """The name of the chain's workflow, which the evaluation follows."""
    overlap: str
    """Argo's concurrencyPolicy."""
    mutexes: dict[str, str]
    """By template, the mutex that its pods hold."""


def workflow_name(recipe: Recipe, evaluation: bool = False) -> str:
    """The name of a recipe's workflow; that of its evaluation."""
    plain = re.sub(r"[^a-z0-9]+", "-", recipe.name).strip("-")
    if plain != recipe.name or len(plain) > LONGEST or plain.endswith(EVALUATION):
        # Two recipes must not share a name because of what Kubernetes does not take, or with an evaluation.
        plain = f"{plain[: LONGEST - 6].strip('-')}-{hashlib.sha256(recipe.name.encode()).hexdigest()[:5]}"
    return f"longhaul-{plain}" + (EVALUATION if evaluation else "")


def changes_for(recipe: Recipe, evaluation: bool) -> WorkflowChanges:
    """What to change in the objects of a recipe's chain, or of its evaluation."""
    cluster, pools = recipe.cluster or ClusterConfig(), exclusive_pools(recipe)
    templates: dict[str, str] = {}
    for stage in ("evaluate",) if evaluation else enabled_stages(recipe):
        if (pool := cluster.resources(stage).pool) not in pools:
            continue
        if evaluation:
            steps = ["start", "tagged"]
        elif stage in STEPS:
            steps = [STEPS[stage] + ("-on-nodes" if nodes_of(recipe, stage) > 1 else "")]
        else:
            continue
        templates |= {step: f"longhaul-pool-{pool}" for step in steps}
    return WorkflowChanges(
        name=workflow_name(recipe, evaluation),
        chain=workflow_name(recipe),
        overlap=POLICIES[recipe.schedule.overlap if recipe.schedule else "skip"],
        mutexes=templates,
    )


def changed(document: Mapping[str, Any], changes: WorkflowChanges) -> dict[str, Any]:
    """An object with the changes; `document` stays as it is."""
    result: dict[str, Any] = json.loads(json.dumps(document))
    spec = result["spec"]
    if result["kind"] == "CronWorkflow":
        spec["concurrencyPolicy"] = changes.overlap
    elif result["kind"] == "WorkflowTemplate":
        spec["synchronization"] = {"mutexes": [{"name": changes.name}]}
        spec["podSpecPatch"] = json.dumps({"terminationGracePeriodSeconds": GRACE_S})
        for template in spec["templates"]:
            if mutex := changes.mutexes.get(template["name"]):
                template["synchronization"] = {"mutexes": [{"name": mutex}]}
            if "manifest" in template.get("resource", {}):
                manifest = template["resource"]["manifest"]
                template["resource"]["manifest"] = re.sub(
                    r"(\"?terminationGracePeriodSeconds\"?: *)0\b", rf"\g<1>{GRACE_S}", manifest
                )
    elif result["kind"] == "Sensor":
        # The event names the flow, which all recipes share; the run's name has the workflow's.
        for dependency in spec["dependencies"]:
            dependency["filters"]["exprs"].append(
                {
                    "expr": f"run =~ '^argo-{changes.chain}-[a-z0-9]+$'",
                    "fields": [{"name": "run", "path": "body.payload.run_id"}],
                }
            )
    return result
