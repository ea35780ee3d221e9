"""Settings with which a trained reward model judges; they stand beside its weights, and RL reads them there."""

from pydantic import BaseModel, ConfigDict, Field


class CotJudging(BaseModel):
    """Of the chain-of-thought reward model."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    max_response_tokens: int = Field(96, ge=1, description="Longest reasoning and verdict.")
    temperature: float = Field(0.2, gt=0, description="Sampling temperature; another seed has to change something.")
    attempts: int = Field(3, ge=1, description="How many times it is asked before there is no verdict.")


class ClassicJudging(BaseModel):
    """Of the classic reward model."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    threshold: float = Field(0.5, gt=0, lt=1, description="Probability from which on an answer is right.")
