"""Settings of the evaluation that follows every stage."""

from collections import Counter
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from steps.configs.answer_reading import AnswerReading
from steps.configs.benchmarks import BenchmarkConfig

ContextKind = Literal["needles", "tracing", "aggregation", "questions"]
"""RULER's four kinds of task (arXiv 2404.06654, section 3)."""

ModelStage = Literal[
    "import",
    "vanilla_sft",
    "long_cot_sft",
    "rl",
    "long2short/merge",
    "long2short/shortest",
    "long2short/dpo",
    "long2short/rl",
]
"""The stages that make a model."""

SHORTEST_CONTEXT = 256


class ContextConfig(BaseModel):
    """Tasks in long texts, by which the context that a model really uses is measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lengths: tuple[int, ...] = Field(
        (4096, 8192, 16384, 32768), min_length=1, description="Tokens of prompt and longest response together, rising."
    )
    kinds: tuple[ContextKind, ...] = Field(
        ("needles", "tracing", "aggregation", "questions"), min_length=1, description="Kinds of task."
    )
    tasks: int = Field(8, ge=1, description="Tasks of each kind at each length.")
    words: Literal["english", "nano_world"] = Field(
        "english", description="What the texts are written in: plain English, or the lines of the nano world."
    )
    max_response_tokens: int = Field(128, ge=1, description="Longest response; a part of each length.")
    temperature: float = Field(0.0, ge=0, description="Sampling temperature.")
    threshold: float = Field(
        0.856,
        gt=0,
        le=1,
        description="Accuracy that a length counts as used with. RULER's: that of Llama2-7B-chat at 4,096 tokens.",
    )
    stages: tuple[ModelStage, ...] | None = Field(
        None, description="The stages whose models are evaluated in this way; null: all."
    )

    @field_validator("lengths")
    @classmethod
    def _rising(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        if list(lengths) != sorted(set(lengths)):
            raise ValueError(f"{list(lengths)} do not rise: write each length once, the shortest first")
        return lengths

    @model_validator(mode="after")
    def _has_room_for_a_text(self) -> "ContextConfig":
        if self.lengths[0] - self.max_response_tokens < SHORTEST_CONTEXT:
            raise ValueError(
                f"lengths: {self.lengths[0]} leaves {self.lengths[0] - self.max_response_tokens} tokens for a text "
                f"beside max_response_tokens {self.max_response_tokens}; it needs {SHORTEST_CONTEXT}: raise the one or "
                "lower the other"
            )
        return self


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
    context: ContextConfig | None = Field(
        None, description="Tasks in long texts, after RULER; without the section there are none."
    )

    benchmarks: tuple[BenchmarkConfig, ...] = Field(
        (),
        description="Public benchmarks on which models are evaluated besides: names of those that are here, as in "
        "[gsm8k, math500], or mappings with a name and what is changed. Training reads none of this.",
    )

    def for_stage(self, stage: str | None) -> "EvaluationConfig":
        """The settings of the evaluation of a stage's model; None: of a model by its name, which has all of them."""
        if self.context is None:
            return self
        named = stage is None or self.context.stages is None or stage in self.context.stages
        return self.model_copy(update={"context": self.context.model_copy(update={"stages": None}) if named else None})

    @model_validator(mode="after")
    def _names_differ(self) -> "EvaluationConfig":
        names = Counter(one.name for one in self.benchmarks)
        if repeated := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"benchmarks: {repeated[0]} stands twice: give one another `name`, and a `source`")
        return self
