"""A flow on a cluster: each step gets what the recipe's `cluster` section says, and stages that fill several nodes get
the steps for that.

Invariant: on one machine nothing of this applies. It does where LONGHAUL_CLUSTER is set, which `longhaul deploy` does
and which every pod inherits, so that a pod builds the same graph as the one that was deployed.
"""

import os
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from metaflow import FlowMutator, environment, kubernetes, retry, timeout  # type: ignore[attr-defined]
from metaflow.packaging_sys import ContentType

from flows.cluster.multi_node_steps import STEPS_ON_NODES, WORK
from flows.cluster.plan import LIGHT, ON_CLUSTER, nodes_of, shipped_files
from flows.topology import enabled_stages
from infra.cluster.config import ClusterConfig, StageResources
from steps.recipe import Recipe, check_recipe

SANDBOX_CLIENT = "longhaul/sandbox-client"
"""The label by which the sandbox's service lets a pod in (infra/sandbox/deploy/kubernetes.yaml)."""
KEEP = "cluster-autoscaler.kubernetes.io/safe-to-evict"
"""The annotation by which the autoscaler leaves a node alone, however little of it a stage takes."""
USER = 10001
"""The image's user."""
PORT = 29500
"""Where the first node of several listens for the others."""


class on_cluster(FlowMutator):
    """`@on_cluster()`: see the module. Steps that have no @stage are light, but for those named in `stages`."""

    def init(self, stages: Mapping[str, str] | None = None) -> None:
        self.stages = dict(stages or {})
        self.recipe: Recipe | None = None

    def pre_mutate(self, mutable_flow: Any) -> None:
        """Replace the steps of stages that fill several nodes: the graph is made of them after this."""
        if ON_CLUSTER not in os.environ:
            return
        self.recipe = check_recipe(dict(mutable_flow.configs)["config"].to_dict(), "the configuration")
        for name, step in list(mutable_flow.steps):
            stage = _stage_of(step, self.recipe)
            if stage is None or nodes_of(self.recipe, stage) == 1:
                continue
            # Metaflow has no public way to add a step to a flow; it builds the graph again after pre_mutate.
            for part, function in STEPS_ON_NODES[stage].items():
                setattr(mutable_flow._flow_cls, part, function)
            assert name in STEPS_ON_NODES[stage], (
                f"the stage {stage} has its steps on nodes under another name than {name}"
            )

    def mutate(self, mutable_flow: Any) -> None:
        """Give each step its resources."""
        if self.recipe is None:
            return
        for name, step in mutable_flow.steps:
            stage = self.stages.get(name) or _stage_of(step, self.recipe)
            for decorator, attributes in _decorators(self.recipe, stage):
                step.add_decorator(decorator, deco_kwargs=attributes, duplicates=step.OVERRIDE)

    def add_to_package(self) -> Iterator[tuple[str, str, ContentType]]:
        """The files that the recipe names go with the code, to where they are looked for."""
        for path, source in shipped_files(self.recipe).items() if self.recipe is not None else ():
            yield str(source), path, ContentType.USER_CONTENT


def _stage_of(step: Any, recipe: Recipe) -> str | None:
    """The stage that a step is, by its @stage or @stage_on_nodes. None also for one that the recipe leaves out: such a
    step is passed through, and no GPU should wait for that."""
    for name, _, _, attributes in step.decorator_specs:
        if name.rpartition(".")[2] in ("stage", WORK):
            return str(attributes["name"]) if attributes["name"] in enabled_stages(recipe) else None
    return None


def _decorators(recipe: Recipe, stage: str | None) -> Generator[tuple[Any, dict[str, Any]], None, None]:
    """What a step of a stage, or a light one, is decorated with."""
    cluster = recipe.cluster or ClusterConfig()
    resources = LIGHT if stage is None else cluster.resources(stage)
    yield kubernetes, _kubernetes(cluster, resources, several=stage is not None and nodes_of(recipe, stage) > 1)
    yield retry, {"times": resources.effective_retries, "minutes_between_retries": resources.retry_minutes}
    yield timeout, {"minutes": round(resources.hours * 60)}
    variables = {ON_CLUSTER: "1", **cluster.environment}
    if cluster.sandbox:
        variables["LONGHAUL_SANDBOX"] = cluster.sandbox
    yield environment, {"vars": variables}


def _kubernetes(cluster: ClusterConfig, resources: StageResources, several: bool) -> dict[str, Any]:
    return {
        "cpu": f"{resources.cpu:g}",
        "memory": str(round(resources.memory_gb * 1024)),
        "disk": str(round(resources.disk_gb * 1024)),
        "gpu": str(resources.gpus) if resources.gpus else None,
        "shared_memory": round(resources.shared_memory_gb * 1024) or None,
        "image": cluster.image,
        "service_account": cluster.service_account,
        "secrets": list(cluster.secrets) or None,
        "node_selector": resources.labels or None,
        "tolerations": resources.all_tolerations or None,
        "labels": {SANDBOX_CLIENT: "true"},
        "annotations": {KEEP: "false"},
        "extended_resources": resources.efa_resources if several else {},
        "port": PORT if several else None,
        "security_context": {
            "run_as_non_root": True,
            "run_as_user": USER,
            "run_as_group": USER,
            "allow_privilege_escalation": False,
        },
    }
