"""Settings of the reward models (§2.3.5)."""

from pydantic import BaseModel, ConfigDict, Field

from steps.configs.judging import ClassicJudging, CotJudging
from steps.configs.phase import PhaseConfig

_AROUND = 32
"""Tokens of the chat format and of the words around question and answers; the engine is asked for room for them."""


class CotRmConfig(CotJudging):
    """The chain-of-thought reward model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    phase: PhaseConfig = Field(
        PhaseConfig(sequence_length=384, epochs=3, tokens_per_step=1024, learning_rate=1e-3, final_learning_rate=1e-4),
        description="Its training.",
    )


class ClassicRmConfig(ClassicJudging):
    """The classic reward model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    phase: PhaseConfig = Field(
        PhaseConfig(sequence_length=256, epochs=2, tokens_per_step=1024, learning_rate=1e-3, final_learning_rate=1e-4),
        description="Its training.",
    )


class RewardModelsConfig(BaseModel):
    """The two reward models and what they are trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    problems: int = Field(400, ge=2, description="Most curated problems of mathematics whose answers are labelled.")
    samples: int = Field(2, ge=0, description="Responses of the policy to each; their final answers are labelled.")
    max_response_tokens: int = Field(288, ge=1, description="Longest response.")
    rewritten: int = Field(8, ge=1, description="Reference answers, or numbers near them, in other forms, for each.")
    spot_check: float = Field(0.2, gt=0, lt=1, description="Share of the problems kept for the spot check.")
    max_answer_tokens: int = Field(48, ge=1, description="Longest final answer that is judged; a longer one is wrong.")
    classic: ClassicRmConfig = Field(ClassicRmConfig(), description="The classic reward model.")
    cot: CotRmConfig = Field(CotRmConfig(), description="The chain-of-thought reward model.")

    def check(self, prompt: int, context: int) -> None:
        """Raises ValueError, with the keys' names, where question, both answers and judgement can outgrow a context."""
        needed = prompt + 2 * self.max_answer_tokens + _AROUND + self.cot.max_response_tokens
        if needed > context:
            raise ValueError(
                f"engine.context is {context}, and a judgement can take {needed} tokens: curation.max_prompt_tokens "
                f"({prompt}), twice reward_models.max_answer_tokens ({self.max_answer_tokens}), {_AROUND} around them "
                f"and reward_models.cot.max_response_tokens ({self.cot.max_response_tokens}); raise engine.context or "
                "lower one of the others"
            )
        for name, length, longest in (
            ("classic", self.classic.phase.sequence_length, needed - self.cot.max_response_tokens),
            ("cot", self.cot.phase.sequence_length, needed),
        ):
            if length < longest:
                raise ValueError(
                    f"reward_models.{name}.phase.sequence_length is {length}, and what is trained on can take "
                    f"{longest} tokens: raise it, or lower curation.max_prompt_tokens ({prompt}) or "
                    f"reward_models.max_answer_tokens ({self.max_answer_tokens})"
                )
