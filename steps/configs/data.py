"""Settings of the data stage: where problems and examples come from, the nano world or files."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class NanoWorldConfig(BaseModel):
    """How much of the nano world to generate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_problems: int = Field(1200, ge=8, description="Problems offered to curation, a sixth of them unsuitable.")
    test_problems: int = Field(150, ge=6, description="Held-out problems for evaluation.")
    sft_examples: int = Field(3000, ge=8, description="Examples of vanilla SFT.")
    long_cot_paths: int = Field(1000, ge=4, description="Long reasoning paths for long-CoT SFT to choose from.")


class FilesConfig(BaseModel):
    """Data sets in JSONL files: paths, or s3://bucket/key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: str = Field(description="Problems offered to curation.")
    test: str = Field(description="Held-out problems for evaluation.")
    format: Literal["problem", "gsm8k", "humaneval"] = Field("problem", description="The format of train and test.")
    sft: str = Field(description="Examples of vanilla SFT.")
    long_cot: str = Field(description="Long reasoning paths to problems of `train`.")

    @field_validator("train", "test", "sft", "long_cot")
    @classmethod
    def _a_file(cls, address: str) -> str:
        if address.startswith("s3:") and not re.fullmatch(r"s3://[^/]+/(.*/)?[^/]*[^/.][^/]*", address):
            raise ValueError(f"{address} is not the address of an object: write s3://bucket/key.jsonl")
        return address

    @property
    def by_name(self) -> dict[str, str]:
        """Path or address of each file, by its key."""
        return {"train": self.train, "test": self.test, "sft": self.sft, "long_cot": self.long_cot}

    @property
    def paths(self) -> list[str]:
        """All files."""
        return list(self.by_name.values())


class DataConfig(BaseModel):
    """The source of all data sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nano_world: NanoWorldConfig | None = Field(None, description="Generate the nano world.")
    files: FilesConfig | None = Field(None, description="Read files.")
    instructions: dict[Literal["math", "code"], str] = Field(
        {},
        description="By verifier, what is added to each problem's prompt, and to the prompts of its examples: how the "
        "answer is to be given. A model that was not trained on it writes no \\boxed{} unless the prompt says so.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        if (self.nano_world is None) == (self.files is None):
            raise ValueError("give exactly one of nano_world and files")
        return self
