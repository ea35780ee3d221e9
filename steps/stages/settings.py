"""What a stage depends on in the recipe: its own section, and those that it shares with others."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from infra.configs import EngineConfig, HandoverConfig, TrainerConfig
from infra.gates.suites import Suite
from steps.configs.evaluation import EvaluationConfig
from steps.configs.gates import every_shipped_rule

SettingsT = TypeVar("SettingsT", bound=BaseModel)


class StageSettings(BaseModel, Generic[SettingsT]):
    """A stage's own section of the recipe, and the sections that it shares with others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    own: SerializeAsAny[SettingsT]
    engine: EngineConfig
    trainer: TrainerConfig
    handover: HandoverConfig
    evaluation: EvaluationConfig
    gates: Suite = Field(default_factory=every_shipped_rule, description="The rules of the stage's data gates.")
