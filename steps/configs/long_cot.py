"""Settings of long-CoT SFT (§2.2)."""

from pydantic import BaseModel, ConfigDict, Field

from steps.configs.phase import PhaseConfig


class LongCotConfig(BaseModel):
    """Long-CoT SFT."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paths: int = Field(400, ge=1, description="Most verified paths that are trained on.")
    phase: PhaseConfig = Field(description="The light SFT.")
