"""What of a recipe has to do with a cluster: how many nodes a stage fills, which files go with the code, and what
cannot work there. Imports no Metaflow: `longhaul deploy` says what is wrong before anything is compiled.
"""

import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from flows.topology import STEPS, enabled_stages
from infra.cluster.config import ClusterConfig, StageResources
from infra.cluster.placement import has_room, nodes_needed
from infra.errors import LonghaulError
from infra.notify import VARIABLE
from infra.scheduling.config import LOOKS
from steps.recipe import ConfigRefused, Recipe, check_recipe

ON_CLUSTER = "LONGHAUL_CLUSTER"
"""Set where a flow is deployed to a cluster, and in its pods."""
ROOT = Path(__file__).resolve().parents[2]
SIZES = ROOT / "configs" / "cluster"
"""Sections `cluster` for the sizes that Terraform makes, one file each."""
LIGHT = StageResources(cpu=1, memory_gb=4, disk_gb=10, hours=1)
"""What a step gets that is not a stage."""
MOST_SHIPPED = 64 << 20
"""Bytes of files that a recipe may send with its code: every pod fetches them."""
LEAK = re.compile(
    r"\b(localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|AWS_ENDPOINT_URL\w*|AWS_(SECRET_)?ACCESS_KEY\w*|AWS_SESSION_TOKEN|moto)\b|\[::1\]"
)
"""What must not occur in what is shipped."""
GENERATE_ONLY = ("import", "curation", "long_cot_paths", "long2short/merge", "evaluate")
"""Stages that train nothing."""
NO_GPUS = ("data",)
TURNS = 4
"""How many stages on several nodes may share a pool that is large enough."""


class CannotDeploy(LonghaulError, ValueError):
    """A recipe cannot run on a cluster as it stands; the message names the key and the way out."""


def _asks_a_server(recipe: Recipe, stage: str) -> bool:
    """Whether a stage has no model of its own in memory: one that has a teacher behind an endpoint."""
    paths = recipe.long_cot_paths
    return stage == "long_cot_paths" and paths is not None and paths.teacher.endpoint is not None


def nodes_of(recipe: Recipe, stage: str) -> int:
    """Nodes that a stage runs on. Raises CannotDeploy where they have too few GPUs for its ranks and workers."""
    resources = (recipe.cluster or ClusterConfig()).resources(stage)
    if stage in NO_GPUS or not resources.gpus or _asks_a_server(recipe, stage):
        return resources.nodes or 1
    engine, ranks = recipe.engine, 0 if stage in GENERATE_ONLY else recipe.trainer.ranks
    try:
        fewest = nodes_needed(engine, ranks, recipe.handover, resources.gpus)
    except ValueError as error:
        raise CannotDeploy(f"{stage}: {error}, or raise cluster.stages.{stage}.gpus") from error
    nodes = resources.nodes or fewest
    if not has_room(engine, ranks, recipe.handover, nodes, resources.gpus):
        raise CannotDeploy(
            f"{stage} has {nodes} nodes of {resources.gpus} GPUs, and trainer.ranks {ranks} with engine.workers "
            f"{engine.workers} of engine.tensor_parallel {engine.tensor_parallel} need {fewest}: raise "
            f"cluster.stages.{stage}.nodes or leave it out, or lower those"
        )
    return nodes


def for_evaluation(recipe: Recipe) -> Recipe:
    """The recipe as the evaluation has it, which is on one node: with at most the engines that it has room for.

    Raises CannotDeploy where it is to run on several, or where not even one engine fits.
    """
    resources = (recipe.cluster or ClusterConfig()).resources("evaluate")
    if (resources.nodes or 1) > 1:
        raise CannotDeploy(
            f"cluster.stages.evaluate.nodes is {resources.nodes}, its own or the default's, and the evaluation is on "
            "one node: set it to 1"
        )
    engine = recipe.engine
    if resources.gpus:
        fitting = max(1, resources.gpus // engine.tensor_parallel)
        engine = engine.model_copy(update={"workers": min(engine.workers, fitting)})
        recipe = recipe.model_copy(update={"engine": engine})
    nodes_of(recipe, "evaluate")
    return recipe


def exclusive_pools(recipe: Recipe) -> set[str]:
    """Pools whose nodes are too few for all branches of long2short at the same time: stages take turns there."""
    cluster = recipe.cluster or ClusterConfig()
    needed: dict[str, int] = {}
    for stage in enabled_stages(recipe):
        if stage.startswith("long2short/"):
            pool = cluster.resources(stage).pool or ""
            needed[pool] = needed.get(pool, 0) + nodes_of(recipe, stage)
    return {pool for pool, most in cluster.pools.items() if needed.get(pool, 0) > most}


def pool_turns(recipe: Recipe, stage: str) -> list[int]:
    """The turns of its pool that a stage takes for as long as it runs, out of TURNS; none for a stage on one node of a
    pool that has room for all branches.

    Whatever recipes share a pool, not all of its nodes can come to belong to stages that wait for more. Stages that
    hold all turns run one at a time. A stage of n nodes takes one turn where n - 1 is at most (P - 1) / TURNS of the
    pool's P nodes: as many as there are turns, each with all of its nodes but one, leave a node free, and whoever gets
    it has all of its nodes. Stages on one node wait for nobody.
    """
    pool = (recipe.cluster or ClusterConfig()).resources(stage).pool or ""
    most, nodes = (recipe.cluster or ClusterConfig()).pools.get(pool), nodes_of(recipe, stage)
    if pool in exclusive_pools(recipe):
        return list(range(TURNS))
    if nodes == 1:
        return []
    if most is None or nodes - 1 > (most - 1) // TURNS:
        return list(range(TURNS))
    # Branches of a recipe follow one another in STEPS, and get different turns.
    own = int(hashlib.sha256(recipe.name.encode()).hexdigest(), 16)
    return [(own + STEPS.index(stage)) % TURNS]


def _check_pools(recipe: Recipe, stages: list[str]) -> None:
    """Raises CannotDeploy where a stage needs more nodes than its pool has."""
    cluster = recipe.cluster or ClusterConfig()
    # All of them first: GPUs that do not suffice for ranks and workers come before a pool that is too small.
    for stage, nodes in [(stage, nodes_of(recipe, stage)) for stage in stages]:
        pool = cluster.resources(stage).pool
        if pool in cluster.pools and nodes > cluster.pools[pool]:
            raise CannotDeploy(
                f"{stage} needs {nodes} nodes, and the pool {pool} has {cluster.pools[pool]} (cluster.pools.{pool}): "
                "choose a larger --size, raise the pool and that key, or lower trainer.ranks and engine.workers"
            )


def with_size(recipe: Recipe, size: str | None) -> Recipe:
    """The recipe with a size's section `cluster`, which the recipe's own keys override. Raises CannotDeploy."""
    if size is None:
        return recipe
    path = SIZES / f"{size}.yaml"
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    own = recipe.cluster.model_dump(mode="json", exclude_unset=True) if recipe.cluster is not None else {}
    stages = {**preset["stages"]}
    for name, stage in own.get("stages", {}).items():
        stages[name] = {**stages.get(name, {}), **stage}
    pools = {**preset.get("pools", {}), **own.get("pools", {})}
    section = {
        **preset,
        **own,
        "pools": pools,
        "default": {**preset["default"], **own.get("default", {})},
        "stages": stages,
    }
    try:
        return check_recipe({**recipe.model_dump(mode="json"), "cluster": section}, f"cluster of size {size}")
    except (ConfigRefused, ValidationError) as error:
        raise CannotDeploy(str(error)) from error


def shipped_files(recipe: Recipe) -> dict[str, Path]:
    """The local files that a recipe names, by the path at which pods look for them. Raises CannotDeploy.

    Paths are relative, for pods stand in a folder of their own, and all files together are small, for each pod fetches
    them.
    """
    named = {"import_checkpoint.checkpoint": recipe.import_checkpoint.checkpoint}
    if recipe.data.sources is not None:
        named |= {f"{key}.path": one.path for key, one in recipe.data.sources.by_key().items() if one.path}
    if recipe.import_checkpoint.chat_template is not None:
        named["import_checkpoint.chat_template"] = recipe.import_checkpoint.chat_template
    if recipe.judging.custom is not None:
        named["judging.custom.file"] = recipe.judging.custom.file
    if recipe.gates.folder is not None:
        named["gates.folder"] = recipe.gates.folder
    files: dict[str, Path] = {}
    for key, value in named.items():
        if "://" in value or (key == "import_checkpoint.checkpoint" and not Path(value).exists()):
            continue  # s3://…, or a name on the hub
        path = Path(value)
        if path.is_absolute() or ".." in path.parts:
            raise CannotDeploy(
                f"{key} is {value}, which no pod has: name a path below this folder, which then goes with the code, "
                "or an s3:// address"
            )
        if not path.exists():
            raise CannotDeploy(f"{key} is {value}, and there is nothing at this path: correct it")
        paths = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        files |= {one.as_posix(): one.absolute() for one in paths}
    size = sum(file.stat().st_size for file in files.values())
    if size > MOST_SHIPPED:
        largest = max(files, key=lambda name: files[name].stat().st_size)
        raise CannotDeploy(
            f"the recipe names {size / 2**20:,.0f} MiB of local files (the largest is {largest}), and up to "
            f"{MOST_SHIPPED / 2**20:.0f} MiB go with the code: put them into S3 and name their s3:// addresses"
        )
    return files


def check_deployable(recipe: Recipe, stages: list[str]) -> None:
    """Raises CannotDeploy for what cannot work on a cluster."""
    if not recipe.store.startswith("s3://"):
        raise CannotDeploy(
            f"store is {recipe.store}, which pods do not share: --set store=s3://BUCKET/PREFIX "
            "(`terraform output store` says it)"
        )
    cluster = recipe.cluster or ClusterConfig()
    try:
        cluster.check([*stages, "evaluate"])
    except ValueError as error:
        raise CannotDeploy(str(error)) from error
    if (gpus := cluster.resources("data").gpus) > 0:
        raise CannotDeploy(
            f"cluster.stages.data.gpus is {gpus}, its own or the default's, and the step of this stage decides which "
            "others need a node: set it to 0, with a pool of nodes without GPUs"
        )
    if not cluster.sandbox and "LONGHAUL_SANDBOX" not in cluster.environment:
        raise CannotDeploy(
            "cluster.sandbox is not set, and pods without privileges cannot make boxes for programs: name the "
            "service's address (docs/sandbox.md), or set cluster.environment.LONGHAUL_SANDBOX to what your pods can do"
        )
    if recipe.notify is not None and VARIABLE.fullmatch(recipe.notify.webhook) and not cluster.secrets:
        raise CannotDeploy(
            f"notify.webhook is {recipe.notify.webhook}, an environment variable, and no pod has it: name a Kubernetes "
            "secret with such a key in cluster.secrets"
        )
    if recipe.schedule is not None and recipe.schedule.when == "data-changed" and recipe.schedule.cron == LOOKS:
        raise CannotDeploy(
            f"schedule.when is data-changed, without a `cron`: Argo does not look at the data, and would start a "
            f"workflow every ten minutes ({LOOKS}) to find that nothing changed. Give `cron`, or have `longhaul "
            "schedule run` look at the data"
        )
    _check_pools(recipe, stages)
    shipped_files(recipe)


def redirected_endpoints(environment: Mapping[str, str]) -> list[str]:
    """Variables that lead S3 or AWS elsewhere: a test's server, for instance."""
    return sorted(
        name for name in environment if name.startswith("AWS_ENDPOINT_URL") or name == "METAFLOW_S3_ENDPOINT_URL"
    )


def compile_environment(recipe: Recipe, own: Mapping[str, str], again: str) -> dict[str, str]:
    """The environment in which a flow is compiled. What the recipe does not say is Metaflow's own configuration.

    Args:
        again: the command that runs the recipe again, for reports of failures.
    """
    cluster = recipe.cluster or ClusterConfig()
    variables = {ON_CLUSTER: "1"}
    if cluster.namespace:
        variables["METAFLOW_KUBERNETES_NAMESPACE"] = cluster.namespace
    if recipe.notify is not None:
        words = ["python", "-m", "flows.cli.notify", "--webhook", recipe.notify.webhook, "--recipe", recipe.name]
        words += ["--command", again, "--status", "Failed"]
        # Metaflow evaluates this in the pod that looks at what failed, once the workflow has ended badly.
        variables["METAFLOW_ARGO_WORKFLOWS_CAPTURE_ERROR_SCRIPT"] = (
            f'{shlex.join(words)} --run "argo-$METAFLOW_WORKFLOW_NAME" --failures "$METAFLOW_ARGO_WORKFLOW_FAILURES"'
        )
    return {**own, **variables}


def check_shipped(document: Mapping[str, Any]) -> None:
    """Raises CannotDeploy for an object that leads a pod to this machine, or carries credentials."""
    for path, text in _texts(document):
        if leak := LEAK.search(text):
            raise CannotDeploy(
                f"{document['kind']} {document['metadata']['name']}: {path} has {leak.group()!r}, which means nothing "
                "in a pod or must not be seen there: look for it in Metaflow's configuration and the recipe"
            )


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield f"{path}.{name}", str(name)
            yield from _texts(one, f"{path}.{name}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _texts(one, f"{path}[{index}]")
    else:
        yield path, str(value)
