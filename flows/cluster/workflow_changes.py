"""What Metaflow does not say in the workflows that it compiles, and a recipe needs: names of its own, one run at a
time, branches that a pool has room for, time to end, no pod for a step that has nothing to do.

The first step says which of the others are to run (flows/cluster/finished.py): Argo skips the rest. Whatever follows a
step that may be skipped reads its input from the first step, whose output is always there.

`longhaul deploy` changes the objects on their way to Kubernetes (flows/cluster/argo_create.py), and in what a dry run
writes (flows/cluster/argo_recorder.py).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from flows.cluster.plan import nodes_of, pool_turns
from flows.topology import enabled_stages, enabled_steps
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
EVALUATE_STEP = "evaluate"
"""The step of the evaluation's workflow that evaluates."""
RUN = "run-"
"""What the first step's parameters begin with that say whether a step is to run; the step's name follows."""
FIRST = "start"
"""The first step."""
FIRST_TASK = f"{{{{tasks.{FIRST}.outputs.parameters.task-id}}}}"
"""The first step's task, whose artifacts Metaflow finds by its name."""


class WorkflowChanges(BaseModel):
    """What is changed in the objects of one flow."""

    model_config = ConfigDict(extra="forbid")

    name: str
    """The workflow's."""
    chain: str
    """The name of the chain's workflow, which the evaluation follows."""
    overlap: str
    """Argo's concurrencyPolicy."""
    mutexes: dict[str, list[str]]
    """By template, the mutexes that its pods hold, all of them or none: Argo takes them together."""
    skippable: dict[str, str]
    """Steps that may have nothing to do: by the first step of a stage, its last one."""


def workflow_name(recipe: Recipe, evaluation: bool = False) -> str:
    """The name of a recipe's workflow; that of its evaluation."""
    plain = re.sub(r"[^a-z0-9]+", "-", recipe.name).strip("-")
    if plain != recipe.name or len(plain) > LONGEST or plain.endswith(EVALUATION):
        # Two recipes must not share a name because of what Kubernetes does not take, or with an evaluation.
        plain = f"{plain[: LONGEST - 6].strip('-')}-{hashlib.sha256(recipe.name.encode()).hexdigest()[:5]}"
    return f"longhaul-{plain}" + (EVALUATION if evaluation else "")


def changes_for(recipe: Recipe, evaluation: bool) -> WorkflowChanges:
    """What to change in the objects of a recipe's chain, or of its evaluation."""
    cluster = recipe.cluster or ClusterConfig()
    templates: dict[str, list[str]] = {}
    for stage in ("evaluate",) if evaluation else enabled_steps(recipe):
        pool = cluster.resources(stage).pool or "any"
        mutexes = [f"longhaul-pool-{pool}-{turn}" for turn in pool_turns(recipe, stage)]
        if not mutexes:
            continue
        if evaluation:
            steps = [EVALUATE_STEP]
        elif stage in STEPS:
            steps = [STEPS[stage] + ("-on-nodes" if nodes_of(recipe, stage) > 1 else "")]
        else:
            continue
        templates |= {step: mutexes for step in steps}
    return WorkflowChanges(
        name=workflow_name(recipe, evaluation),
        chain=workflow_name(recipe),
        overlap=POLICIES[recipe.schedule.overlap if recipe.schedule else "skip"],
        mutexes=templates,
        skippable={EVALUATE_STEP: EVALUATE_STEP} if evaluation else _skippable(recipe),
    )


def _skippable(recipe: Recipe) -> dict[str, str]:
    enabled = enabled_stages(recipe)
    several = {stage for stage in STEPS if stage in enabled and nodes_of(recipe, stage) > 1}
    # A step that joins may not branch as well, and RL is followed by four.
    last = {stage: "-branches" if stage == "rl" else "-join" for stage in several}
    return {step: step + last.get(stage, "") for stage, step in STEPS.items()}


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
            if mutexes := changes.mutexes.get(template["name"]):
                template["synchronization"] = {"mutexes": [{"name": name} for name in mutexes]}
            if "manifest" in template.get("resource", {}):
                manifest = template["resource"]["manifest"]
                template["resource"]["manifest"] = re.sub(
                    r"(\"?terminationGracePeriodSeconds\"?: *)0\b", rf"\g<1>{GRACE_S}", manifest
                )
        _skip_finished(spec, changes.skippable)
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


def _skip_finished(spec: dict[str, Any], skippable: Mapping[str, str]) -> None:
    """Have Argo skip the steps that the first step says have nothing to do."""
    templates = {template["name"]: template for template in spec["templates"]}
    firsts = {last: first for first, last in skippable.items()}
    # A pod of an older deployment leaves no such file.
    templates[FIRST]["outputs"]["parameters"] += [
        {"name": RUN + step, "valueFrom": {"path": f"/mnt/out/{RUN}{step}", "default": "true"}} for step in skippable
    ]
    for task in templates[spec["entrypoint"]]["dag"]["tasks"]:
        awaited = re.findall(r"([a-z0-9-]+)\.Succeeded", task["depends"])
        if task["name"] in skippable:
            task["when"] = f"{{{{tasks.{FIRST}.outputs.parameters.{RUN}{task['name']}}}}} == true"
        if task["name"] in skippable or firsts.keys() & set(awaited):
            (paths,) = [one for one in task["arguments"]["parameters"] if one["name"] == "input-paths"]
            # A join needs as many inputs as it joins branches; those of a list share what stands before its colon.
            tasks = [FIRST_TASK] * (paths["value"].count(",") + 1)
            paths["value"] = f"argo-{{{{workflow.name}}}}/{FIRST}/" + (":" if tasks[1:] else "") + ",".join(tasks)
        # The steps that follow a skipped one within its stage are omitted.
        task["depends"] = re.sub(
            r"([a-z0-9-]+)\.Succeeded",
            lambda match: f"({match[0]} || {firsts[match[1]]}.Skipped)" if match[1] in firsts else match[0],
            task["depends"],
        )
