"""Settings of public benchmarks. Those that come with Longhaul are data: YAML files in steps/benchmarks.

A recipe names a benchmark, and the definition's values become part of its settings: a key then holds what a model was
evaluated on, and the definition of a benchmark that it does not name reruns nothing.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from steps.configs.answer_reading import AnswerReading
from steps.configs.data_source import SourceConfig

_UNUSED = {
    "limit": "give the benchmark's own `limit` beside `source`",
    "weight": "leave it out",
    "skip_refused": "leave it out, for figures without some of a benchmark's problems are not comparable",
}
"""Keys of a source that benchmarks have no use for, each with the way out."""

_DEFINITIONS = Path(__file__).resolve().parents[1].joinpath(*("benchmarks",))


class Shot(BaseModel):
    """An example that the prompt shows first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = Field(min_length=1, description="Its problem.")
    answer: str = Field(min_length=1, description="The response that it shows.")


@cache
def shipped_benchmarks() -> dict[str, dict[str, Any]]:
    """The definitions that come with Longhaul, by name."""
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(_DEFINITIONS.glob("*.yaml"))}


class BenchmarkConfig(BaseModel):
    """A benchmark; of one that comes with Longhaul its name is enough, and each value can be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$", description="gsm8k, math500, aime24, humaneval, mbpp, or yours."
    )
    title: str = Field("", description="As reports call it; default: the name.")
    path: str | None = Field(
        None,
        min_length=1,
        description="A file with its rows, or s3://bucket/key, in place of the hub: JSON lines, JSON or Parquet.",
    )
    source: SourceConfig = Field(description="Where its rows are, and what they look like.")
    problems: int | None = Field(None, ge=1, description="How many it has; other numbers are recorded as a change.")
    rows_digest: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of its prompts and answers, as records have it; another one is recorded as a change.",
    )
    licence: str = Field("unknown", description="Of the rows.")
    citation: str = Field("", description="The paper.")
    instruction: str = Field("", description="Added to each prompt: how the answer is to be given.")
    shots: tuple[Shot, ...] = Field((), description="Examples that each prompt begins with.")
    answer_reading: AnswerReading = Field("boxed", description="How answers to mathematics are read.")
    samples: int = Field(1, ge=1, description="Responses for each problem.")
    temperature: float = Field(0.6, ge=0, description="Sampling temperature.")
    max_response_tokens: int = Field(
        2048, ge=1, description="Longest response; less where engine.context has no room for it, as the record says."
    )
    limit: int | None = Field(None, ge=1, description="Only the first problems, at most so many; all if not given.")

    @model_validator(mode="before")
    @classmethod
    def _from_its_definition(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            raw = {"name": raw}
        if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
            return raw
        shipped = shipped_benchmarks().get(raw["name"])
        if shipped is None and "source" not in raw:
            known = ", ".join(shipped_benchmarks())
            raise ValueError(f"{raw['name']!r} is not a benchmark that is here ({known}): give `source` for your own")
        values = {**(shipped or {}), **raw}
        return {**values, "title": values.get("title") or raw["name"]}

    @model_validator(mode="after")
    def _has_problems(self) -> "BenchmarkConfig":
        self.source.check("test")
        for key, way_out in _UNUSED.items():
            if getattr(self.source, key):
                raise ValueError(f"source.{key} is for the sources of `data`, and benchmarks do not read it: {way_out}")
        return self
