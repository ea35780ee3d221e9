"""What a stage depends on in the recipe: its own section, and those that it shares with others."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, SerializeAsAny

from infra.configs import EngineConfig, HandoverConfig, TrainerConfig
from infra.gates.suites import Suite
from steps.configs.evaluation import EvaluationConfig

SettingsT = TypeVar("SettingsT", bound=BaseModel)


class StageSettings(BaseModel, Generic[SettingsT]):
    """A stage's own section of the recipe, and the sections that it shares with others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    own: SerializeAsAny[SettingsT]
    engine: EngineConfig
    trainer: TrainerConfig
    handover: HandoverConfig
    evaluation: EvaluationConfig
    gates: Suite
    """The rules of the stage's data gates."""
