"""Settings of shortest rejection sampling (§2.4)."""

from pydantic import BaseModel, ConfigDict, Field

from infra.configs import Frozen
from steps.configs.phase import PhaseConfig
from steps.configs.responses import ResponsesConfig


class ShortestConfig(BaseModel):
    """Shortest rejection sampling."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    responses: ResponsesConfig = Field(ResponsesConfig(), description="The responses to choose from.")
    phase: PhaseConfig = Field(description="The fine-tuning.")
    freeze: Frozen | None = Field(
        None,
        description="What of a model that reads images is not trained: none, vision or language; null: as "
        "trainer.freeze says.",
        exclude_if=lambda value: value is None,
    )
