"""Plans of made-up chains, and names of their stages."""

from flows.chain import Chain
from flows.plan import PlannedStage, make_plan
from flows.topology import MODEL_STAGES
from infra.store import records
from infra.store.evaluation_stages import evaluation_stage
from infra.store.records import StageRecord

SHORT = ["long2short/merge", "long2short/shortest", "long2short/dpo", "long2short/rl"]


EVALUATIONS = [evaluation_stage(stage) for stage in MODEL_STAGES]


RL_AND_AFTER = [each for stage in ("rl", *SHORT) for each in (stage, evaluation_stage(stage))]


def plan(made: Chain, read: bool = False) -> dict[str, PlannedStage]:
    def earlier(stage: str) -> list[StageRecord]:
        results = [r for r in records.read(made.store, StageRecord, "stages") if r.stage == stage]
        return results[::-1]

    def failure(key: str) -> StageRecord | None:
        results = [r for r in records.read(made.store, StageRecord, "stage-runs") if r.key == key and r.failure]
        return results[-1] if results else None

    return {one.stage: one for one in make_plan(made, earlier, failure, read)}


def runs(planned: dict[str, PlannedStage]) -> list[str]:
    return [name for name, one in planned.items() if one.action == "run"]
