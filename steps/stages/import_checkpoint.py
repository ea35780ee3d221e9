"""The import stage: check the pretrained checkpoint, and store it.

longhaul run --config configs/nano.yaml --only import
"""

from dataclasses import asdict
from typing import Any

from infra.progress.tasks import say
from infra.stages.contract import StageContext, StageOutput
from steps.configs.import_checkpoint import ImportConfig
from steps.import_checkpoint import import_checkpoint
from steps.stages.settings import Settings


def run(context: StageContext, settings: Settings[ImportConfig]) -> StageOutput:
    """Raises CheckpointRefused naming the file."""
    source = context.sources["import_checkpoint.checkpoint"]
    template = context.sources.get("import_checkpoint.chat_template")
    chat_template = template.path if template else None
    result = import_checkpoint(source, settings.own, context.folder / "model", say, chat_template)
    metrics: dict[str, Any] = {
        "source": result.source,
        "architecture": result.architecture,
        "parameters": result.parameters,
        "context_length": result.context_length,
        "left_out": list(result.left_out),
    }
    if result.system_prompt:
        metrics["before_each_prompt"] = result.system_prompt
    if result.images is not None:
        metrics["images"] = asdict(result.images)
    headline = f"{result.architecture}, {result.parameters:,} parameters"
    return StageOutput({"model": ("model", context.folder / "model")}, metrics, headline=headline)
