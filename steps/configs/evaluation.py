"""Settings of the evaluation that follows every stage."""

from pydantic import BaseModel, ConfigDict, Field


class EvaluationConfig(BaseModel):
    """How models are evaluated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int = Field(4, ge=1, description="Responses per problem, over which pass@1 is averaged.")
    max_response_tokens: int = Field(320, ge=1, description="Longest response.")
    temperature: float = Field(1.0, ge=0, description="Sampling temperature.")
    examples: int = Field(6, ge=0, description="Responses kept to be read in the report.")
