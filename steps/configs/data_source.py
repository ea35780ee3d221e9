"""Settings of one source of rows. Benchmarks are read by them, too, so that no other setting of data stands here."""

import re
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from steps.data_formats.mapping import IMAGES
from steps.data_formats.registry import converter, formats_of
from steps.problem import Example, Problem

Format = Literal[
    "longhaul",
    "chat",
    "prompt_completion",
    "gsm8k",
    "math",
    "humaneval",
    "mbpp",
    "verl",
    "easyr1",
    "trl",
    "chartqa",
    "clevr",
]
"""What a source's rows look like (docs/data.md)."""

Role = Literal["train", "test", "sft", "long_cot"]
"""What a source is for."""

ROLES: tuple[Role, ...] = get_args(Role)
PROBLEMS: tuple[Role, ...] = ("train", "test")
"""The roles whose rows are problems."""
EXAMPLES: tuple[Role, ...] = ("sft", "long_cot")
"""The roles whose rows are examples."""


class SourceConfig(BaseModel):
    """One source of rows: a file, or a split of a data set on the hub."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | None = Field(
        None, min_length=1, description="A file, or s3://bucket/key: JSON lines (.gz and .zst too), JSON or Parquet."
    )
    hub: str | None = Field(
        None,
        pattern=r"^[\w.-]+/[\w.-]+(@[^\s@]+)?$",
        description="A data set on the hub, in place of `path`: owner/name, or owner/name@revision.",
    )
    config: str | None = Field(None, description="Of a data set on the hub: which of its configurations.")
    split: str | None = Field(None, description="Of a data set on the hub: which split.")
    format: Format = Field("longhaul", description="What its rows look like (docs/data.md).")
    mapping: dict[str, str] | None = Field(
        None,
        description="In place of a format: by field of a problem or an example (prompt, answer, …), the field of a row "
        "that has it, with dots for fields inside of others.",
    )
    values: dict[str, Any] = Field(
        {}, description="Fields of problems or examples that are the same for all rows: `verifier: math`."
    )
    images: str | None = Field(
        None,
        min_length=1,
        description="Folder, or s3://bucket/prefix, in which the image files lie that the rows of `path` name; without "
        "it rows have their images in themselves (bytes, data: URIs).",
    )
    name: str = Field(
        "",
        pattern=r"^[\w.-]*$",
        description="Begins the ids of rows that have none: NAME-LINE. Default: the name of the file without its "
        "ending, or of the data set with its split.",
    )
    limit: int | None = Field(None, ge=1, description="Only the first rows, at most so many; all if not given.")
    weight: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Share of the role's rows that come from here, in proportion to the weights of its other sources. "
        "No row is taken twice; all are taken if no source has a weight.",
    )
    skip_refused: bool = Field(False, description="Leave out, and count, rows that cannot be read; otherwise stop.")

    @field_validator("path")
    @classmethod
    def _a_file(cls, address: str | None) -> str | None:
        if (address or "").startswith("s3:") and not re.fullmatch(r"s3://[^/]+/(.*/)?[^/]*[^/.][^/]*", address or ""):
            raise ValueError(f"{address} is not the address of an object: write s3://bucket/key.jsonl")
        return address

    @model_validator(mode="after")
    def _is_one_thing(self) -> "SourceConfig":
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of path and hub")
        if self.hub is not None and self.images:
            raise ValueError("images is for files beside `path`: the rows of a data set on the hub have theirs inside")
        if self.hub is None and (self.config or self.split):
            raise ValueError("config and split are for a data set on the hub: leave them out, or give hub for path")
        if self.mapping is not None and self.format != "longhaul":
            raise ValueError(f"give a mapping, or format {self.format}, and not both")
        return self

    @model_validator(mode="after")
    def _is_named(self) -> "SourceConfig":
        # Named by the key and not by the path: a file that moves changes no row.
        if not self.name:
            name = (self.path or f"{(self.hub or '').partition('@')[0]}-{self.split or 'all'}").rsplit("/", 1)[-1]
            name = name.partition(".")[0] if self.path else name
            object.__setattr__(self, "name", re.sub(r"[^\w.-]", "_", name) or "rows")
        return self

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys that are not given are left out: a plan lists those that are."""
        return {key: value for key, value in serialize(self).items() if value is not None}

    @property
    def place(self) -> tuple[str | None, ...]:
        """Where its rows are."""
        return (self.path, self.hub, self.config, self.split)

    @property
    def numbers_examples(self) -> bool:
        """Whether examples of it belong to problems by their line, since the rows name none."""
        return "problem_id" not in self.mapping if self.mapping is not None else self.format != "longhaul"

    def check(self, role: Role) -> None:
        """Raises ValueError for fields and formats that rows of this role do not have."""
        kind, model = ("problem", Problem) if role in PROBLEMS else ("example", Example)
        for key, fields in (("mapping", self.mapping or {}), ("values", self.values)):
            known = {*model.model_fields, IMAGES} if key == "mapping" else {*model.model_fields}
            if unknown := [name for name in fields if name not in known]:
                raise ValueError(
                    f"{role}: {key}: {unknown[0]} is not a field of {kind}s, which have {', '.join(model.model_fields)}"
                )
        if self.mapping is None and converter(self.format, kind) is None:
            raise ValueError(
                f"{role}: rows of format {self.format} do not become {kind}s: those of "
                f"{', '.join(formats_of(kind))} do, and a mapping"
            )
