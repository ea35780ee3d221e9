"""What of the recipe a stage uses: its own section, and those that it shares with others.

A setting is in a stage's key only where it stands in the stage's settings: a stage that trains nothing is not run again
for another `trainer.micro_batch_tokens`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from infra.configs import EngineConfig, HandoverConfig, TrainerConfig
    from infra.gates.suites import Suite
    from steps.configs.custom_reward import JudgingConfig

OwnT = TypeVar("OwnT", covariant=True)


@dataclass(frozen=True)
class Settings(Generic[OwnT]):
    """Of a stage that neither generates nor trains."""

    own: OwnT
    """The stage's own section of the recipe."""
    gates: "Suite"
    """The rules of the stage's data gates."""


@dataclass(frozen=True)
class GenerateSettings(Settings[OwnT]):
    """Of a stage that generates, and judges."""

    engine: "EngineConfig"
    judging: "JudgingConfig"


@dataclass(frozen=True)
class SupervisedSettings(Settings[OwnT]):
    """Of a stage that trains and judges, and does not generate."""

    trainer: "TrainerConfig"
    judging: "JudgingConfig"


@dataclass(frozen=True)
class TrainSettings(GenerateSettings[OwnT]):
    """Of a stage that trains, and generates."""

    trainer: "TrainerConfig"
    handover: "HandoverConfig"


def trainer_of(settings: TrainSettings[Any] | SupervisedSettings[Any]) -> "TrainerConfig":
    """The trainer's section, with what the stage's own freezes, if it has the key."""
    freeze = getattr(settings.own, "freeze", None)
    return settings.trainer if freeze is None else settings.trainer.model_copy(update={"freeze": freeze})
