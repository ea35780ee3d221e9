"""Settings of vanilla SFT (§2.5.2)."""

from pydantic import BaseModel, ConfigDict, Field

from infra.configs import Frozen
from steps.configs.phase import PhaseConfig


class ExpansionConfig(BaseModel):
    """Rejection sampling of further reasoning examples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    problems: int = Field(200, ge=0, description="Problems that the first phase's model answers; 0 turns it off.")
    samples: int = Field(4, ge=1, description="Answers to each.")
    keep: int = Field(1, ge=1, description="Most right answers kept of each.")
    temperature: float = Field(0.8, gt=0, description="Sampling temperature.")
    max_response_tokens: int = Field(128, ge=1, description="Longest answer.")


class SftConfig(BaseModel):
    """Vanilla SFT."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    phases: tuple[PhaseConfig, PhaseConfig] = Field(description="The two phases, in order.")
    expansion: ExpansionConfig = Field(
        ExpansionConfig(), description="Rejection sampling between the phases, for the second one."
    )
    freeze: Frozen | None = Field(
        None,
        description="What of a model that reads images is not trained: none, vision or language; null: as "
        "trainer.freeze says.",
        exclude_if=lambda value: value is None,
    )
