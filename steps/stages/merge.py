"""The stage of model merging (§2.4).

longhaul run --config configs/nano.yaml --only long2short/merge
"""

import shutil

from infra.stages.contract import StageContext, StageOutput
from steps.configs.merge import MergeConfig
from steps.long2short.merge import merge_weights
from steps.stages.settings import Settings


def run(context: StageContext, settings: Settings[MergeConfig]) -> StageOutput:
    """Average the RL model (`model`) and the short-CoT one (`short`)."""
    long = context.inputs["model"]
    merged = context.folder / "model"
    merge_weights(long, context.inputs["short"], settings.own.long_weight, merged)
    for file in long.iterdir():
        if not (merged / file.name).exists():
            shutil.copyfile(file, merged / file.name)
    return StageOutput({"model": ("model", merged)}, {"long_weight": settings.own.long_weight})
