"""The steps of a stage that fills several nodes: one starts the nodes, one runs on all of them, one joins them.

    rl → rl_on_nodes (as many tasks as nodes, at the same time) → rl_join → what follows rl

Metaflow reads a flow's graph from the source of its steps, so that each has to be written out, with the successors of
the one that it replaces: tests/flows/test_flow_graph.py compares them with the chain. flows/cluster/decorator.py puts a
stage's three in place of its one. Argo runs `…_on_nodes` as a JobSet: the pods start together, and fail together.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from metaflow import FlowSpec, parallel, step  # type: ignore[attr-defined]

from flows.cluster.stage_on_nodes import join_nodes, nodes_for, stage_on_nodes

WORK = "stage_on_nodes"
"""The decorator of the step that runs the stage."""


class MultiNodeSteps(FlowSpec):
    """Holds the steps; no flow is made of it."""

    @step
    def import_checkpoint(self) -> None:
        """Start the nodes of import."""
        self.next(self.import_checkpoint_on_nodes, num_parallel=nodes_for(self, "import"))

    @parallel
    @stage_on_nodes(name="import")
    @step
    def import_checkpoint_on_nodes(self) -> None:
        """import, on each of its nodes."""
        self.next(self.import_checkpoint_join)

    @step
    def import_checkpoint_join(self, inputs: Any) -> None:
        """Take the results of the first node of import."""
        join_nodes(self, inputs)
        self.next(self.vanilla_sft)

    @step
    def vanilla_sft(self) -> None:
        """Start the nodes of vanilla_sft."""
        self.next(self.vanilla_sft_on_nodes, num_parallel=nodes_for(self, "vanilla_sft"))

    @parallel
    @stage_on_nodes(name="vanilla_sft")
    @step
    def vanilla_sft_on_nodes(self) -> None:
        """vanilla_sft, on each of its nodes."""
        self.next(self.vanilla_sft_join)

    @step
    def vanilla_sft_join(self, inputs: Any) -> None:
        """Take the results of the first node of vanilla_sft."""
        join_nodes(self, inputs)
        self.next(self.curation)

    @step
    def curation(self) -> None:
        """Start the nodes of curation."""
        self.next(self.curation_on_nodes, num_parallel=nodes_for(self, "curation"))

    @parallel
    @stage_on_nodes(name="curation")
    @step
    def curation_on_nodes(self) -> None:
        """curation, on each of its nodes."""
        self.next(self.curation_join)

    @step
    def curation_join(self, inputs: Any) -> None:
        """Take the results of the first node of curation."""
        join_nodes(self, inputs)
        self.next(self.long_cot_paths)

    @step
    def long_cot_paths(self) -> None:
        """Start the nodes of long_cot_paths."""
        self.next(self.long_cot_paths_on_nodes, num_parallel=nodes_for(self, "long_cot_paths"))

    @parallel
    @stage_on_nodes(name="long_cot_paths")
    @step
    def long_cot_paths_on_nodes(self) -> None:
        """long_cot_paths, on each of its nodes."""
        self.next(self.long_cot_paths_join)

    @step
    def long_cot_paths_join(self, inputs: Any) -> None:
        """Take the results of the first node of long_cot_paths."""
        join_nodes(self, inputs)
        self.next(self.long_cot_sft)

    @step
    def long_cot_sft(self) -> None:
        """Start the nodes of long_cot_sft."""
        self.next(self.long_cot_sft_on_nodes, num_parallel=nodes_for(self, "long_cot_sft"))

    @parallel
    @stage_on_nodes(name="long_cot_sft")
    @step
    def long_cot_sft_on_nodes(self) -> None:
        """long_cot_sft, on each of its nodes."""
        self.next(self.long_cot_sft_join)

    @step
    def long_cot_sft_join(self, inputs: Any) -> None:
        """Take the results of the first node of long_cot_sft."""
        join_nodes(self, inputs)
        self.next(self.reward_models)

    @step
    def reward_models(self) -> None:
        """Start the nodes of reward_models."""
        self.next(self.reward_models_on_nodes, num_parallel=nodes_for(self, "reward_models"))

    @parallel
    @stage_on_nodes(name="reward_models")
    @step
    def reward_models_on_nodes(self) -> None:
        """reward_models, on each of its nodes."""
        self.next(self.reward_models_join)

    @step
    def reward_models_join(self, inputs: Any) -> None:
        """Take the results of the first node of reward_models."""
        join_nodes(self, inputs)
        self.next(self.rl)

    @step
    def rl(self) -> None:
        """Start the nodes of rl."""
        self.next(self.rl_on_nodes, num_parallel=nodes_for(self, "rl"))

    @parallel
    @stage_on_nodes(name="rl")
    @step
    def rl_on_nodes(self) -> None:
        """rl, on each of its nodes."""
        self.next(self.rl_join)

    @step
    def rl_join(self, inputs: Any) -> None:
        """Take the results of the first node of rl."""
        join_nodes(self, inputs)
        self.next(self.rl_branches)

    # A step that joins may not branch as well.
    @step
    def rl_branches(self) -> None:
        """Continue with the four methods of long2short."""
        self.next(self.merge, self.shortest, self.dpo, self.short_rl)

    @step
    def merge(self) -> None:
        """Start the nodes of long2short/merge."""
        self.next(self.merge_on_nodes, num_parallel=nodes_for(self, "long2short/merge"))

    @parallel
    @stage_on_nodes(name="long2short/merge")
    @step
    def merge_on_nodes(self) -> None:
        """long2short/merge, on each of its nodes."""
        self.next(self.merge_join)

    @step
    def merge_join(self, inputs: Any) -> None:
        """Take the results of the first node of long2short/merge."""
        join_nodes(self, inputs)
        self.next(self.report)

    @step
    def shortest(self) -> None:
        """Start the nodes of long2short/shortest."""
        self.next(self.shortest_on_nodes, num_parallel=nodes_for(self, "long2short/shortest"))

    @parallel
    @stage_on_nodes(name="long2short/shortest")
    @step
    def shortest_on_nodes(self) -> None:
        """long2short/shortest, on each of its nodes."""
        self.next(self.shortest_join)

    @step
    def shortest_join(self, inputs: Any) -> None:
        """Take the results of the first node of long2short/shortest."""
        join_nodes(self, inputs)
        self.next(self.report)

    @step
    def dpo(self) -> None:
        """Start the nodes of long2short/dpo."""
        self.next(self.dpo_on_nodes, num_parallel=nodes_for(self, "long2short/dpo"))

    @parallel
    @stage_on_nodes(name="long2short/dpo")
    @step
    def dpo_on_nodes(self) -> None:
        """long2short/dpo, on each of its nodes."""
        self.next(self.dpo_join)

    @step
    def dpo_join(self, inputs: Any) -> None:
        """Take the results of the first node of long2short/dpo."""
        join_nodes(self, inputs)
        self.next(self.report)

    @step
    def short_rl(self) -> None:
        """Start the nodes of long2short/rl."""
        self.next(self.short_rl_on_nodes, num_parallel=nodes_for(self, "long2short/rl"))

    @parallel
    @stage_on_nodes(name="long2short/rl")
    @step
    def short_rl_on_nodes(self) -> None:
        """long2short/rl, on each of its nodes."""
        self.next(self.short_rl_join)

    @step
    def short_rl_join(self, inputs: Any) -> None:
        """Take the results of the first node of long2short/rl."""
        join_nodes(self, inputs)
        self.next(self.report)


def _steps(name: str, *more: str) -> Mapping[str, Callable[..., Any]]:
    parts = (name, f"{name}_on_nodes", f"{name}_join", *more)
    return MappingProxyType({part: getattr(MultiNodeSteps, part) for part in parts})


STEPS_ON_NODES: Mapping[str, Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        "import": _steps("import_checkpoint"),
        "vanilla_sft": _steps("vanilla_sft"),
        "curation": _steps("curation"),
        "long_cot_paths": _steps("long_cot_paths"),
        "long_cot_sft": _steps("long_cot_sft"),
        "reward_models": _steps("reward_models"),
        "rl": _steps("rl", "rl_branches"),
        "long2short/merge": _steps("merge"),
        "long2short/shortest": _steps("shortest"),
        "long2short/dpo": _steps("dpo"),
        "long2short/rl": _steps("short_rl"),
    }
)
"""By stage, the steps that replace its own where it fills several nodes, by their names."""
