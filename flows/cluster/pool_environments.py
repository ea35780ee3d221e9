"""In which numeric environments the nodes of a pool have been seen.

    pool-environments/<pool>     one record for each environment that a stage's pod found itself in

A stage's key holds the numeric environment of the node that the stage runs on, and what decides whether that node is
needed must run before there is one. So each pod that runs a stage leaves its environment in the store, and the first
step of a workflow computes keys as they would be in those environments. Without any, a stage gets its pod, which
decides by itself.

NOTE: a pool whose instance type changes keeps its old environments. What was made on the old nodes is reused until its
key changes otherwise, or a run has `force`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from flows.chain import Chain
from infra.cluster.config import ClusterConfig
from infra.stages.key import KeyParts
from infra.stages.numeric_environment import numeric_environment
from infra.stages.reuse import CachedStage
from infra.store import records
from infra.store.records import Record
from infra.store.store import Store
from steps.recipe import Recipe


class PoolEnvironmentRecord(Record):
    """A numeric environment of a pool's nodes."""

    environment: dict[str, str]


def leave_environment(store: Store, recipe: Recipe, step: str) -> None:
    """Record this pod's numeric environment as one of the pool that a stage's step runs in."""
    cluster = recipe.cluster or ClusterConfig()
    own = numeric_environment(cluster.environment)
    if own not in environments_of(store, recipe, step):
        records.write(store, _name(recipe, step), PoolEnvironmentRecord(environment=own))


def environments_of(store: Store, recipe: Recipe, step: str) -> Sequence[dict[str, str]]:
    """Those of the pool that a stage's step runs in, newest first."""
    entries = records.read_skipping(store, PoolEnvironmentRecord, _name(recipe, step))
    return [entry.environment for entry in entries][::-1]


def find_on_pool(
    chain: Chain, step: str, stage: str, parts: KeyParts, read: bool = True
) -> tuple[KeyParts, CachedStage] | None:
    """What may be reused for a stage that would run in its step's pool, with what its key is made of there.

    None where no node of the pool was ever seen: only a pod can say. Raises StageMissing as Chain.reusable does.

    Args:
        read: compare every byte of the outputs with their manifests; otherwise it is enough that they are there.
    """
    seen = environments_of(chain.store, chain.recipe, step) if parts.environment else []
    candidates = [replace(parts, environment=one) for one in seen]
    another_run_stands_in = chain.selection.reuse is not None and stage not in chain.selected
    if not parts.environment or another_run_stands_in or chain.recipe.reuse_across_environments:
        candidates.append(parts)
    looked_up = [(one, chain.reusable(stage, one, read)) for one in candidates]
    return next((each for each in looked_up if each[1].record is not None), looked_up[-1] if looked_up else None)


def _name(recipe: Recipe, step: str) -> str:
    cluster = recipe.cluster or ClusterConfig()
    resources = cluster.resources(step)
    pool = [resources.labels, resources.gpus, cluster.environment]
    return f"pool-environments/{hashlib.sha256(json.dumps(pool, sort_keys=True).encode()).hexdigest()}"
