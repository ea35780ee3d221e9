"""Settings of the long2short methods (§2.4); those of long2short RL are `steps.rl.config`."""

from pydantic import BaseModel, ConfigDict, Field

from steps.configs.phase import PhaseConfig


class ResponsesConfig(BaseModel):
    """How responses are sampled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    problems: int = Field(200, ge=1, description="Problems, drawn from the RL prompt set.")
    samples: int = Field(8, ge=2, description="n, responses to each.")
    temperature: float = Field(1.0, gt=0, description="Sampling temperature.")
    max_response_tokens: int = Field(320, ge=1, description="Longest response.")


class MergeConfig(BaseModel):
    """Model merging."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    long_weight: float = Field(0.5, ge=0, le=1, description="Share of the long-CoT model; the rest is the short one's.")


class ShortestConfig(BaseModel):
    """Shortest rejection sampling."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    responses: ResponsesConfig = ResponsesConfig()
    phase: PhaseConfig = Field(description="The fine-tuning.")


class DpoConfig(BaseModel):
    """Direct preference optimisation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    responses: ResponsesConfig = ResponsesConfig()
    pairs_per_problem: int = Field(2, ge=1, description="Most rejected responses set against the chosen one.")
    longer: float = Field(1.5, gt=1, description="How many times longer a right response must be to be rejected.")
    beta: float = Field(0.1, gt=0, description="β, the strength of the pull towards the model that DPO starts from.")
    learning_rate: float = Field(gt=0, description="Constant learning rate.")
    pairs_per_step: int = Field(32, ge=1, description="Pairs per optimizer step.")
    epochs: int = Field(1, ge=1, description="Passes over the pairs.")
    sequence_length: int = Field(512, ge=16, description="Tokens in a packed row.")
