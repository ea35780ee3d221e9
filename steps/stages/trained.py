"""The output of a stage that trains."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.stages.contract import StageContext, StageOutput
from infra.training.ranks import AnyTrainer


def trained(
    context: StageContext,
    trainer: AnyTrainer,
    metrics: dict[str, Any],
    outputs: Mapping[str, tuple[str, Path]],
    headline: str,
) -> StageOutput:
    """The stage's output: the model that is in the trainer, and others."""
    model = trainer.save(context.folder / "model")
    return StageOutput({"model": ("model", model), **outputs}, metrics, headline=headline)
