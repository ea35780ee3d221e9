"""Settings of the responses that shortest rejection sampling and DPO choose from (§2.4)."""

from pydantic import BaseModel, ConfigDict, Field


class ResponsesConfig(BaseModel):
    """How responses are sampled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    problems: int = Field(200, ge=1, description="Problems, drawn from the RL prompt set.")
    samples: int = Field(8, ge=2, description="n, responses to each.")
    temperature: float = Field(1.0, gt=0, description="Sampling temperature.")
    max_response_tokens: int = Field(320, ge=1, description="Longest response.")
