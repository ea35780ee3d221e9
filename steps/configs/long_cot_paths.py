"""Settings of the long reasoning paths that a teacher writes (§2.2)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.inference.endpoint_config import EndpointConfig
from steps.behaviours import Behaviour

TeacherKind = Literal["model", "checkpoint", "endpoint"]

INSTRUCTIONS: dict[Behaviour, str] = {
    "planning": "Before you calculate anything, write a plan: what is asked for, what is known, and which steps lead "
    "from one to the other. Then carry it out step by step.",
    "evaluation": "Think step by step. Check each result before you use it, and the final answer against the "
    "question: write how you check it, and whether it is right.",
    "reflection": "Think aloud, step by step. Where something looks wrong, say so (Wait, ...), go back to the step "
    "where it went wrong, and correct it from there.",
    "exploration": "Think aloud, step by step. Try one way to solve it, and then another (Alternatively, ...); "
    "compare what they lead to, and decide which answer is right.",
}
"""How each of the report's behaviours is brought out; the wording is the project's own."""


class TeacherConfig(BaseModel):
    """Who writes the paths: the vanilla SFT model of the chain where nothing is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str | None = Field(
        None,
        min_length=1,
        description="Another model: a folder, s3://bucket/prefix, or the name of a repository on the hub (owner/name).",
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub; the default branch if not given.")
    endpoint: EndpointConfig | None = Field(None, description="An OpenAI-compatible server.")

    @property
    def kind(self) -> TeacherKind:
        """Where the teacher is."""
        return "endpoint" if self.endpoint is not None else "checkpoint" if self.checkpoint is not None else "model"

    @model_validator(mode="after")
    def _one_teacher(self) -> "TeacherConfig":
        if self.checkpoint is not None and self.endpoint is not None:
            raise ValueError("give one of checkpoint and endpoint, or neither for the vanilla SFT model")
        if self.revision is not None and (self.checkpoint is None or self.checkpoint.startswith("s3://")):
            raise ValueError("revision is for a checkpoint on the hub: give its name as checkpoint, or leave it out")
        return self


class LongCotPathsConfig(BaseModel):
    """Who writes long reasoning paths, to how many problems, and what it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    teacher: TeacherConfig = Field(TeacherConfig(), description="Who writes them; default: the vanilla SFT model.")
    problems: int = Field(400, ge=1, description="Most problems, drawn from those of the training set.")
    samples: int = Field(4, ge=1, description="Answers to each, with the instructions in turn.")
    temperature: float = Field(0.8, ge=0, description="Sampling temperature.")
    max_response_tokens: int = Field(512, ge=1, description="Longest answer; a longer path is left out.")
    instructions: dict[Behaviour, str] = Field(
        INSTRUCTIONS,
        min_length=1,
        description="By behaviour, what is added to the question to bring it out. The path that is trained on has the "
        "question alone.",
    )
