"""Settings of DPO (§2.4)."""

from pydantic import BaseModel, ConfigDict, Field

from infra.configs import Frozen
from steps.configs.responses import ResponsesConfig


class DpoConfig(BaseModel):
    """Direct preference optimisation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    responses: ResponsesConfig = Field(ResponsesConfig(), description="The responses to choose from.")
    pairs_per_problem: int = Field(2, ge=1, description="Most rejected responses set against the chosen one.")
    longer: float = Field(1.5, gt=1, description="How many times longer a right response must be to be rejected.")
    beta: float = Field(0.1, gt=0, description="β, the strength of the pull towards the model that DPO starts from.")
    learning_rate: float = Field(gt=0, description="Constant learning rate.")
    pairs_per_step: int = Field(32, ge=1, description="Pairs per optimizer step.")
    epochs: int = Field(1, ge=1, description="Passes over the pairs.")
    sequence_length: int = Field(512, ge=16, description="Tokens in a packed row.")
    freeze: Frozen | None = Field(
        None,
        description="What of a model that reads images is not trained: none, vision or language; null: as "
        "trainer.freeze says.",
        exclude_if=lambda value: value is None,
    )
