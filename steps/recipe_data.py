"""Where problems and examples come from: generated, or files."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from steps.nano_world.world import NanoWorldConfig


class FilesConfig(BaseModel):
    """Data sets in JSONL files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: str = Field(description="Problems offered to curation.")
    test: str = Field(description="Held-out problems for evaluation.")
    format: str = Field("problem", description="The format of train and test: problem, or gsm8k.")
    sft: str = Field(description="Examples of vanilla SFT.")
    long_cot: str = Field(description="Long reasoning paths to problems of `train`.")

    @property
    def paths(self) -> list[str]:
        """All files."""
        return [self.train, self.test, self.sft, self.long_cot]


class DataConfig(BaseModel):
    """The source of all data sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nano_world: NanoWorldConfig | None = Field(None, description="Generate the nano world.")
    files: FilesConfig | None = Field(None, description="Read files.")

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        if (self.nano_world is None) == (self.files is None):
            raise ValueError("give exactly one of nano_world and files")
        return self
