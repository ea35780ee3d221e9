"""Settings of model merging (§2.4)."""

from pydantic import BaseModel, ConfigDict, Field


class MergeConfig(BaseModel):
    """Model merging."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    long_weight: float = Field(0.5, ge=0, le=1, description="Share of the long-CoT model; the rest is the short one's.")
