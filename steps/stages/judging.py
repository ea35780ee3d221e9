"""What judges in a stage: the verifiers, and the function of one's own that the recipe names."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from infra.stages.contract import StageContext
from steps.rewards.custom import KEY, CustomReward
from steps.rewards.reward_model import RewardModel
from steps.rewards.scorer import Scorer

if TYPE_CHECKING:
    from steps.configs.custom_reward import JudgingConfig


def open_scorer(
    context: StageContext, judging: "JudgingConfig", reward_models: Callable[[], Mapping[str, RewardModel]] = dict
) -> Scorer:
    """A scorer that opens reward models, and judges `custom` problems as the recipe's section says."""
    custom = None
    # The stage of the reward models judges mathematics alone: it has no such file in its key.
    if judging.custom is not None and KEY in context.sources:
        source = context.sources[KEY]
        custom = CustomReward(source.path, source.address, judging.custom)
    return Scorer(models=reward_models(), custom=custom)
