"""The import stage: check the pretrained checkpoint, store it, and measure where it starts from."""

from typing import Any

from infra.progress.tasks import say
from infra.stages.contract import StageContext, StageOutput
from steps.configs.import_checkpoint import ImportConfig
from steps.evaluation import evaluate
from steps.import_checkpoint import import_checkpoint
from steps.stages.common import held_out, workbench
from steps.stages.settings import StageSettings


def run(context: StageContext, settings: StageSettings[ImportConfig]) -> StageOutput:
    """Raises CheckpointRefused naming the file."""
    model = context.folder / "model"
    result = import_checkpoint(settings.own, model, say)
    test = held_out(context, settings)
    with workbench(context, settings, model) as bench:
        evaluation = evaluate(bench, test, settings.evaluation)
    metrics: dict[str, Any] = {
        "source": result.source,
        "architecture": result.architecture,
        "parameters": result.parameters,
        "context_length": result.context_length,
        "left_out": list(result.left_out),
    }
    return StageOutput({"model": ("model", model)}, metrics, evaluation.model_dump(), evaluation.headline)
