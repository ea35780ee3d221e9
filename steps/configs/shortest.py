"""Settings of shortest rejection sampling (§2.4)."""

from pydantic import BaseModel, ConfigDict, Field

from steps.configs.phase import PhaseConfig
from steps.configs.responses import ResponsesConfig


class ShortestConfig(BaseModel):
    """Shortest rejection sampling."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    responses: ResponsesConfig = Field(ResponsesConfig(), description="The responses to choose from.")
    phase: PhaseConfig = Field(description="The fine-tuning.")
