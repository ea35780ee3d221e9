"""Settings of the data stage: where problems and examples come from, the nano world or data sets of one's own."""

import re
from collections import Counter
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

from steps.data_formats.registry import converter, formats_of
from steps.problem import Example, Problem

LongKind = Literal["facts", "assignments", "steps", "long search"]
"""Kinds of long problem (steps/nano_world/long.py)."""


class LongConfig(BaseModel):
    """How much of the nano world's long problems to generate, and how long they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_problems: int = Field(120, ge=3, description="Long problems offered to curation.")
    test_problems: int = Field(30, ge=3, description="Held-out long problems for evaluation.")
    sft_examples: int = Field(240, ge=3, description="Examples of vanilla SFT.")
    long_cot_paths: int = Field(240, ge=3, description="Reasoning paths for long-CoT SFT to choose from.")
    lengths: tuple[int, ...] = Field(
        (512, 1024, 2048), min_length=1, description="Tokens of the problems' texts, each in turn."
    )
    kinds: tuple[LongKind, ...] = Field(
        ("facts", "assignments", "steps", "long search"), min_length=1, description="Kinds of problem, each in turn."
    )
    path_tokens: int = Field(1024, ge=64, description="Most tokens of a path, which limits what a problem asks for.")

    @field_validator("lengths")
    @classmethod
    def _long_enough(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        for length in lengths:
            if length < SHORTEST_LONG:
                raise ValueError(f"{length} tokens are too few for a long problem: give at least {SHORTEST_LONG}")
        return lengths


SHORTEST_LONG = 64


class NanoWorldConfig(BaseModel):
    """How much of the nano world to generate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_problems: int = Field(1200, ge=8, description="Problems offered to curation, a sixth of them unsuitable.")
    test_problems: int = Field(150, ge=6, description="Held-out problems for evaluation.")
    sft_examples: int = Field(3000, ge=8, description="Examples of vanilla SFT.")
    long_cot_paths: int = Field(1000, ge=4, description="Long reasoning paths for long-CoT SFT to choose from.")
    long: LongConfig | None = Field(
        None, description="Long problems in addition to the numbers above; without the section there are none."
    )


Format = Literal["longhaul", "chat", "prompt_completion", "gsm8k", "math", "humaneval", "mbpp", "verl", "easyr1", "trl"]
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

    def check(self, role: Role) -> None:
        """Raises ValueError for fields and formats that rows of this role do not have."""
        kind, model = ("problem", Problem) if role in PROBLEMS else ("example", Example)
        for key, fields in (("mapping", self.mapping or {}), ("values", self.values)):
            if unknown := [name for name in fields if name not in model.model_fields]:
                raise ValueError(
                    f"{role}: {key}: {unknown[0]} is not a field of {kind}s, which have {', '.join(model.model_fields)}"
                )
        if self.mapping is None and converter(self.format, kind) is None:
            raise ValueError(
                f"{role}: rows of format {self.format} do not become {kind}s: those of "
                f"{', '.join(formats_of(kind))} do, and a mapping"
            )


Sources = tuple[SourceConfig, ...]


class SourcesConfig(BaseModel):
    """By role, any number of sources, whose rows are put together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: Sources = Field(min_length=1, description="Problems offered to curation.")
    test: Sources = Field(min_length=1, description="Held-out problems for evaluation.")
    sft: Sources = Field(
        (),
        description="Examples of vanilla SFT. Without them, the solutions that problems of `train` have; without "
        "those, right answers of the imported model (vanilla_sft.expansion).",
    )
    long_cot: Sources = Field(
        (),
        description="Long reasoning paths to problems of `train`; without them a teacher (long_cot_paths) writes some.",
    )

    @model_validator(mode="after")
    def _work_together(self) -> "SourcesConfig":
        for role in ROLES:
            for source in self.of(role):
                source.check(role)
            weights = [source.weight for source in self.of(role)]
            if None in weights and any(weights):
                raise ValueError(f"{role}: one source has no weight, and another one has: give one to each, or to none")
            names = Counter(source.name for source in self.of(role))
            if repeated := [name for name, count in names.items() if count > 1]:
                raise ValueError(f"{role}: two sources are named {repeated[0]!r}: give one of them another `name`")
        return self

    def of(self, role: Role) -> Sources:
        """The sources of one role."""
        sources: Sources = getattr(self, role)
        return sources

    def weighted(self, role: Role) -> bool:
        """Whether the role's rows are a mixture, drawn at random."""
        return any(source.weight for source in self.of(role))

    def by_key(self) -> dict[str, SourceConfig]:
        """All sources, by the recipe's keys: data.sources.train.0."""
        return {source_key(role, place): one for role in ROLES for place, one in enumerate(self.of(role))}


def source_key(role: Role, place: int) -> str:
    """The recipe's key of the source at this place of a role, from 0."""
    return f"data.sources.{role}.{place}"


class DataConfig(BaseModel):
    """The source of all data sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nano_world: NanoWorldConfig | None = Field(None, description="Generate the nano world.")
    sources: SourcesConfig | None = Field(None, description="Read data sets.")
    instructions: dict[Literal["math", "code", "custom"], str] = Field(
        {},
        description="By verifier, what is added to each problem's prompt, and to the prompts of its examples: how the "
        "answer is to be given. A model that was not trained on it writes no \\boxed{} unless the prompt says so.",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_no_files(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "files" in raw:
            raise ValueError(
                "data.files was replaced by data.sources, in which each role has a list: "
                "`sources: {train: [{path: train.jsonl, format: gsm8k}], test: [...], sft: [...], long_cot: [...]}`"
            )
        return raw

    @model_validator(mode="after")
    def _one_origin(self) -> "DataConfig":
        if (self.nano_world is None) == (self.sources is None):
            raise ValueError("give exactly one of nano_world and sources")
        return self

    @property
    def draws(self) -> bool:
        """Whether anything is drawn at random."""
        return self.sources is None or any(self.sources.weighted(role) for role in ROLES)

    def has(self, role: Role) -> bool:
        """Whether there are rows of this role."""
        return self.sources is None or bool(self.sources.of(role))
