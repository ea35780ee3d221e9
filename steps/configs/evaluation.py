"""Settings of the evaluation that follows every stage."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

AnswerReading = Literal["boxed", "last_number", "final_answer_line"]
"""How an answer is read from a response (steps/answer_reading.py)."""


class EvaluationConfig(BaseModel):
    """How models are evaluated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int = Field(4, ge=1, description="Responses per problem, over which pass@1 is averaged.")
    max_response_tokens: int = Field(320, ge=1, description="Longest response.")
    temperature: float = Field(1.0, ge=0, description="Sampling temperature.")
    answer_reading: AnswerReading = Field(
        "boxed",
        description="How answers to mathematics are read: in a box, as RL requires; or the last number, or the line "
        "that gives the answer, for models that were not trained to write a box.",
    )
    examples: int = Field(6, ge=0, description="Responses kept to be read in the report.")
