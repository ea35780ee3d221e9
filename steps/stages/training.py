"""What the bodies share of stages that train: the bench that they work with, and the model that they leave."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.stages.contract import StageContext, StageOutput
from steps.rewards.reward_model import RewardModel
from steps.rewards.scorer import Scorer
from steps.stages.settings import TrainSettings
from steps.workbench import Workbench, open_workbench


@contextmanager
def workbench(
    context: StageContext,
    settings: TrainSettings[Any],
    reward_models: Callable[[], Mapping[str, RewardModel]] = dict,
) -> Iterator[Workbench]:
    """A bench around the input `model` whose metrics go to the stage's log; its scorer opens reward models."""
    with open_workbench(
        context.inputs["model"],
        engine=settings.engine,
        trainer=settings.trainer,
        seed=context.seed,
        scorer=lambda: Scorer(models=reward_models()),
        log=context.log,
        handover=settings.handover,
    ) as bench:
        yield bench


def trained(
    context: StageContext,
    bench: Workbench,
    metrics: dict[str, Any],
    outputs: Mapping[str, tuple[str, Path]],
    headline: str,
) -> StageOutput:
    """The stage's output: the model that is in the bench's trainer, and others."""
    model = bench.trainer.save(context.folder / "model")
    return StageOutput({"model": ("model", model), **outputs}, metrics, headline=headline)
