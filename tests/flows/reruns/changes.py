"""Which stages a change makes run again, and names for those that belong together."""

from pathlib import Path

from flows.chain import Chain
from flows.topology import MODEL_STAGES
from infra.store.evaluation_stages import evaluation_stage
from infra.store.records import StageRecord

BASE = Path("steps/nano_world/checkpoint")
RL = {"rl", "long2short/rl"}
TRAIN = {"vanilla_sft", "long_cot_sft", "long2short/shortest", "long2short/dpo", *RL}
EVALUATIONS = {evaluation_stage(stage) for stage in MODEL_STAGES}
GENERATE = TRAIN - {"long_cot_sft"} | {"curation"} | EVALUATIONS
COMPUTE = TRAIN | GENERATE
"""Stages that generate or train."""
TENSORS = COMPUTE | {"import", "long2short/merge"}
GATED = COMPUTE
NONE: set[str] = set()


def changed(made: Chain, done: dict[str, StageRecord]) -> set[str]:
    """The stages that would run for another reason than what those before them make."""
    return {stage for stage in done if made.parts(stage, done).key != done[stage].key}


def checked_again(made: Chain, done: dict[str, StageRecord]) -> set[str]:
    """The stages whose data gates check again what they read."""
    return {stage for stage in done if made.gates_key(stage, done) != done[stage].gates_key}
