"""Settings of how responses are judged: the reward of one's own."""

import re

from pydantic import BaseModel, ConfigDict, Field, field_validator


class CustomRewardConfig(BaseModel):
    """A Python function that judges problems whose verifier is `custom` (docs/rewards.md has its signature)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(description="Python file: a path, or s3://bucket/key.py. Its content is in the stages' keys.")
    function: str = Field("score", description="The function in it.")
    untrusted: bool = Field(
        False,
        description="Run it in the sandbox, where it has Python's standard library and no network; otherwise it runs "
        "in processes of its own on this machine.",
    )
    seconds: float = Field(10.0, gt=0, le=3600, description="Longest judgement of one response; then there is none.")
    memory_mb: int = Field(4096, ge=64, description="Address space of one process that judges, in MiB.")

    @field_validator("file")
    @classmethod
    def _a_python_file(cls, address: str) -> str:
        if not re.fullmatch(r".*[^/]\.py", address):
            raise ValueError(f"{address!r} is not the name of a Python file: write a path, or s3://bucket/key.py")
        return address

    @field_validator("function")
    @classmethod
    def _a_name(cls, function: str) -> str:
        if not function.isidentifier():
            raise ValueError(f"{function!r} is not the name of a Python function")
        return function


class JudgingConfig(BaseModel):
    """How responses are judged besides by the verifiers that are here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    custom: CustomRewardConfig | None = Field(
        None, description="The function that judges problems whose verifier is `custom`."
    )
