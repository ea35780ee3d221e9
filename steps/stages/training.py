"""The bench of the stages that train and generate."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from infra.stages.contract import StageContext
from infra.vision.folders import ImageFolders
from steps.rewards.reward_model import RewardModel
from steps.stages.judging import open_scorer
from steps.stages.settings import TrainSettings, trainer_of
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
        trainer=trainer_of(settings),
        seed=context.seed,
        scorer=lambda: open_scorer(context, settings.judging, reward_models),
        log=context.log,
        handover=settings.handover,
        images=ImageFolders.among(context.inputs.values()),
    ) as bench:
        yield bench
