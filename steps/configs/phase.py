"""A phase of supervised training (§2.5.2)."""

from pydantic import BaseModel, ConfigDict, Field


class PhaseConfig(BaseModel):
    """One phase of supervised training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sequence_length: int = Field(ge=16, description="Tokens in a packed row; no example may be longer.")
    epochs: int = Field(1, ge=1, description="Passes over the examples.")
    tokens_per_step: int = Field(4096, ge=16, description="Most tokens per optimizer step, padding not counted.")
    learning_rate: float = Field(gt=0, description="Learning rate after warm-up.")
    final_learning_rate: float = Field(gt=0, description="Learning rate at the end of the phase.")
    warmup_share: float = Field(0.03, ge=0, lt=1, description="Share of the steps over which the rate is warmed up.")
