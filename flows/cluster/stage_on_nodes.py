"""`@stage_on_nodes(name=…)`: a step that is a stage of the chain on several nodes at once.

The first node runs the stage, with the others at its command (infra/cluster/group.py); its results are the
stage's. Where any node is lost, all end, and the stage is tried again from its last checkpoint.
"""

import secrets
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from metaflow import current, user_step_decorator

from flows.chain import Chain
from flows.cluster.finished import finished_records
from flows.cluster.plan import GENERATE_ONLY, nodes_of
from flows.cluster.pool_environments import find_on_pool, leave_environment
from flows.topology import inputs_of
from infra.cluster.group import JOIN_S, Node, lead
from infra.cluster.member import serve
from infra.store.records import StageRecord

FEWEST = 2
"""Nodes of a group; Metaflow makes none of one."""


def nodes_for(flow: Any, stage: str) -> int:
    """How many nodes to start for a stage: the fewest where its outputs will be reused. They recognize each other by
    `flow.group_key`."""
    flow.group_key = secrets.token_hex(32)
    done = finished_records(flow)
    flow.records = {each.stage: each.model_dump(mode="json") for each in done.values()}
    return max(FEWEST, nodes_of(flow.chain.recipe, stage)) if _runs(flow.chain, stage, done) else FEWEST


def _runs(chain: Chain, stage: str, done: Mapping[str, StageRecord]) -> bool:
    """Whether a stage is neither reused nor passed through."""
    if (
        stage not in chain.selected
        or not {each.stage for each in inputs_of(chain.recipe, stage).values()} <= done.keys()
    ):
        return False
    cached = None if chain.selection.force else find_on_pool(chain, stage, stage, chain.parts(stage, done), False)
    return cached is None or cached[1].record is None


@user_step_decorator
def stage_on_nodes(step_name: str, flow: Any, inputs: Any, attributes: dict[str, Any]) -> Generator[None, None, None]:
    """See the module. `name` is the stage's."""
    name = attributes["name"]
    place = current.parallel  # type: ignore[attr-defined]  # @parallel puts it there
    node = Node(place.node_index, place.num_nodes, place.main_ip, flow.group_key)
    if node.index:
        serve(node, JOIN_S)
    else:
        recipe = flow.chain.recipe
        leave_environment(flow.chain.store, recipe, name)
        with lead(node) as group:
            if recipe.engine.workers > 1:
                ranks = 0 if name in GENERATE_ONLY else recipe.trainer.ranks
                group.start_rollout(recipe.engine.workers, ranks, recipe.handover.share_device)
            made = flow.chain.run_step(name, finished_records(flow))
        flow.records = {**flow.records, **{record.stage: record.model_dump(mode="json") for record in made}}
    yield


def join_nodes(flow: Any, inputs: Sequence[Any]) -> None:
    """Continue with the results of the first node of a stage: it comes first."""
    flow.merge_artifacts(inputs, exclude=["records"])
    flow.records = inputs[0].records
    # A step's stage, and the evaluation of its model.
    flow.draw_card([StageRecord.model_validate(one) for one in list(flow.records.values())[-2:]])
