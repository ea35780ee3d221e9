"""Settings of long-CoT SFT (§2.2)."""

from pydantic import BaseModel, ConfigDict, Field

from infra.configs import Frozen
from steps.configs.phase import PhaseConfig


class LongCotConfig(BaseModel):
    """Long-CoT SFT."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paths: int = Field(400, ge=1, description="Most verified paths that are trained on.")
    phase: PhaseConfig = Field(description="The light SFT.")
    freeze: Frozen | None = Field(
        None,
        description="What of a model that reads images is not trained: none, vision or language; null: as "
        "trainer.freeze says.",
        exclude_if=lambda value: value is None,
    )
