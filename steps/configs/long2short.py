"""The section long2short (§2.4): the four methods, each with settings in a file of its own.

Only the recipe reads this file: a method's stage imports its own settings, and no other method's.
"""

from pydantic import BaseModel, ConfigDict, Field

from steps.configs.dpo import DpoConfig
from steps.configs.merge import MergeConfig
from steps.configs.rl import RlConfig
from steps.configs.shortest import ShortestConfig


class Long2ShortConfig(BaseModel):
    """The four long2short methods (§2.4), each from the RL model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    merge: MergeConfig = Field(MergeConfig(), description="Model merging.")
    shortest: ShortestConfig = Field(description="Shortest rejection sampling.")
    dpo: DpoConfig = Field(description="Direct preference optimisation.")
    rl: RlConfig = Field(description="Long2short RL: RL once more, with a length reward and a lower longest response.")
