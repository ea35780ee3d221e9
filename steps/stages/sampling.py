"""What the bodies share of stages that sample and train nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.stages.contract import StageContext
from infra.vision.folders import ImageFolders
from steps.sampling_bench import SamplingBench, open_sampling_bench
from steps.stages.judging import open_scorer
from steps.stages.settings import GenerateSettings


@contextmanager
def sampling_bench(context: StageContext, settings: GenerateSettings[Any]) -> Iterator[SamplingBench]:
    """A bench around the input `model` whose metrics go to the stage's log."""
    model = context.inputs["model"]
    with open_sampling_bench(
        model,
        engine=settings.engine,
        seed=context.seed,
        scorer=lambda: open_scorer(context, settings.judging),
        log=context.log,
        images=ImageFolders.among(context.inputs.values()),
    ) as bench:
        yield bench
