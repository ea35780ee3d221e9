"""Settings of the import."""

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ShotConfig(BaseModel):
    """An example that stands before each prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(min_length=1, description="A question.")
    response: str = Field(min_length=1, description="Its answer, in the form that is expected.")


class ImportConfig(BaseModel):
    """Which checkpoint to start from, and how far its context is raised."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str = Field(
        min_length=1, description="A folder, s3://bucket/prefix, or the name of a repository on the hub (owner/name)."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub; the default branch if not given.")
    context_length: int | None = Field(
        None,
        ge=1,
        description="Tokens of context to raise max_position_embeddings to; the checkpoint's own if not given.",
    )
    rope_theta: float | None = Field(
        None, gt=0, description="RoPE base to go with a raised context_length; the checkpoint's own if not given."
    )

    chat_template: str | None = Field(
        None,
        min_length=1,
        description="A file (Jinja), or s3://bucket/key, with the chat template of a checkpoint that has none; it "
        "replaces one that it has.",
    )
    system_prompt: str | None = Field(
        None,
        min_length=1,
        description="Stands before every prompt that has no system turn of its own. It becomes part of the "
        "checkpoint's chat template.",
    )
    few_shot: tuple[ShotConfig, ...] = Field(
        (),
        description="Examples before every prompt, for a base that follows no instructions. They become part of the "
        "checkpoint's chat template.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "ImportConfig":
        if self.rope_theta is not None and self.context_length is None:
            raise ValueError("rope_theta is for a raised context: give context_length as well, or neither")
        if self.revision is not None and self.checkpoint.startswith("s3://"):
            raise ValueError("revision is for a checkpoint on the hub: put the version into the s3:// address")
        return self
