"""The evaluate stage of the imported checkpoint: before it, the engine is compared with the trainer.

It is the first engine that starts on the checkpoint, and it starts before anything trains.

    longhaul run --config configs/nano.yaml --only evaluate/import
"""

from typing import Any

from infra.progress.tasks import say
from infra.stages.contract import StageContext, StageOutput
from steps.configs.evaluation import EvaluationConfig
from steps.engine_agreement import check_agreement
from steps.sampling_bench import SamplingBench
from steps.stages import evaluate
from steps.stages.settings import GenerateSettings


def run(context: StageContext, settings: GenerateSettings[EvaluationConfig]) -> StageOutput:
    """As steps/stages/evaluate.py. Raises CheckpointRefused where engine and trainer compute different models."""

    def compare(bench: SamplingBench) -> dict[str, Any]:
        difference = check_agreement(bench, settings.engine.dtype)
        say(f"engine and trainer differ by {difference:.2g} on average in log-probabilities of sampled tokens")
        return {"engine_against_trainer": difference}

    return evaluate.run(context, settings, compare)
