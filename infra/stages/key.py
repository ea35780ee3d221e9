"""A stage's key: the digest of all that shapes its outputs, and of nothing else; and, of two keys, in what they differ.

What shapes them: the settings that the stage uses, the seed where it uses one, what it reads of its inputs, what it
reads from outside the store, the code that it reaches but for neutral modules (infra/stages/neutral.py), the versions
of the packages that this code imports (infra/stages/packages.py), and what of the machine shapes numbers
(infra/stages/numeric_environment.py).

Inputs count by the digests of their files, not by the keys of the stages that made them: where a stage ran again and
made the same bytes, what follows it is reused.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from infra.flatten import flatten
from infra.sandbox.versions import sandbox_python
from infra.stages.code_digest import reached_code
from infra.stages.numeric_environment import numeric_environment
from infra.stages.packages import package_versions
from infra.store.evaluation_stages import EVALUATE, is_evaluation
from infra.store.manifest import Manifest
from infra.store.records import StageRecord

KEY_FORMAT = 2
"""The rules by which keys are made. Records of another format stay readable; nothing that they hold is reused."""

UNKNOWN = "unknown"
"""In place of the digest of an input that is yet to be made."""

TENSORS = frozenset({"deepspeed", "safetensors", "torch", "transformers", "vllm"})
"""Imports by which a stage is seen to compute with tensors: its key holds the numeric environment."""

JUDGED_PROGRAMS = "infra.sandbox.config"
"""The module by which a stage is seen to run programs: its key holds the version of the Python that does."""

VALUE_CHARACTERS = 60

DifferenceKind = Literal["format", "config", "seed", "code", "data", "package", "environment", "input", "bytes"]
"""`bytes` is a difference of outputs under the same key; no two keys differ in it."""


@dataclass(frozen=True)
class Difference:
    """One thing in which a stage is not as it was."""

    kind: DifferenceKind
    name: str
    """The configuration's key, the module or file, the key that names the data, the package, or the input."""
    before: Any = None
    """None where it was not there."""
    after: Any = None
    detail: str = ""
    """Of a module: which of its functions and constants changed."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {name: value for name, value in vars(self).items() if name != "detail" or value}

    def __str__(self) -> str:
        if self.kind == "format":
            return f"stage keys are made by other rules now (format {self.before} → {self.after})"
        if self.kind in ("code", "data"):
            # Their values are digests, which say nothing to a reader.
            change = "is new" if self.before is None else "is gone" if self.after is None else "changed"
            return f"{self.name} {change}" + (f" ({self.detail})" if self.detail else "")
        if self.kind == "input":
            return f"input {self.name} changed"
        if self.kind == "bytes":
            return f"the key is the same, and output {self.name} is not"
        return f"{self.name} changed: {_short(self.before)} → {_short(self.after)}"


@dataclass(frozen=True)
class KeyParts:
    """What a key is the digest of."""

    stage: str
    """`evaluate` for each evaluation, whatever model it is of: a model is evaluated once."""
    config: dict[str, Any]
    """The settings that the stage uses."""
    seed: int | None
    """None where the stage uses none."""
    upstream: dict[str, str]
    """Digest of what the stage reads of each input; UNKNOWN for one that is yet to be made."""
    sources: dict[str, str]
    """Digest of what is read from outside the store, by the recipe's key that names it: not by address, since the same
    data may have several."""
    modules: dict[str, str]
    """Digest of each module and file that the stage's code reaches."""
    packages: dict[str, str]
    environment: dict[str, str]
    """Empty where the stage's code computes with no tensors."""
    format: int = KEY_FORMAT

    @classmethod
    def now(
        cls,
        stage: str,
        config: Mapping[str, Any],
        seed: int | None,
        upstream: Mapping[str, str],
        sources: Mapping[str, str],
        code: str,
        variables: Mapping[str, str] | None = None,
    ) -> "KeyParts":
        """Of a stage as it would run now.

        Args:
            code: the module of its body.
            variables: environment variables that the recipe sets for its process.
        """
        reached = reached_code(code)
        environment = numeric_environment(variables or {}) if reached.packages & TENSORS else {}
        kind, packages = EVALUATE if is_evaluation(stage) else stage, package_versions(reached.packages)
        if JUDGED_PROGRAMS in reached.digests:
            packages["python of the sandbox"] = sandbox_python()
        return cls(kind, dict(config), seed, dict(upstream), dict(sources), reached.digests, packages, environment)

    @classmethod
    def of(cls, record: StageRecord) -> "KeyParts":
        """Of a stage as it ran."""
        return cls(
            EVALUATE if is_evaluation(record.stage) else record.stage,
            record.config,
            record.seed,
            record.upstream,
            record.source_digests if record.key_format > 1 else record.sources,
            record.modules,
            record.packages,
            record.environment,
            record.key_format,
        )

    @property
    def key(self) -> str:
        """SHA-256, hex."""
        return _digest(asdict(self))

    @property
    def portable_key(self) -> str:
        """The digest of all but the numeric environment."""
        return _digest(asdict(replace(self, environment={})))

    @property
    def unknown_inputs(self) -> list[str]:
        """Names of the inputs that are yet to be made."""
        return [name for name, digest in self.upstream.items() if digest == UNKNOWN]

    def differences(self, earlier: "KeyParts") -> list[Difference]:
        """In what this is not as it was earlier; empty where the keys are the same. Inputs that are yet to be made are
        differences, too."""
        if self.format != earlier.format:
            return [Difference("format", "key_format", earlier.format, self.format)]
        both: list[tuple[DifferenceKind, Mapping[str, Any], Mapping[str, Any]]] = [
            ("data", earlier.sources, self.sources),
            ("config", flatten(earlier.config), flatten(self.config)),
            ("seed", {"seed": earlier.seed}, {"seed": self.seed}),
            ("code", earlier.modules, self.modules),
            ("package", earlier.packages, self.packages),
            ("environment", earlier.environment, self.environment),
            ("input", earlier.upstream, self.upstream),
        ]
        return [Difference(kind, *one) for kind, before, after in both for one in _changed(before, after)]


def other_bytes(before: StageRecord, after: StageRecord) -> list[Difference]:
    """Outputs of two successes with the same key that differ all the same."""
    digests = [{name: ref.digest for name, ref in record.outputs.items()} for record in (before, after)]
    return [Difference("bytes", *one) for one in _changed(*digests)]


def digest_of_files(manifest: Manifest, whole: str, patterns: tuple[str, ...]) -> str:
    """The digest of those files of a stored folder that a stage reads.

    Args:
        whole: the folder's own digest, which it is where there are no patterns.
        patterns: paths in the folder; one that ends in `/` stands for all that is below it.
    """
    if not patterns:
        return whole
    folders = tuple(pattern for pattern in patterns if pattern.endswith("/"))
    files = {
        entry.path: entry.sha256
        for entry in manifest.files
        if entry.path in patterns or (folders and entry.path.startswith(folders))
    }
    return _digest(files)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[tuple[str, Any, Any]]:
    """Names with their values before and after. A key that is null on one side and absent on the other is a difference,
    and is left out where there are some that say more."""
    changes = list(_differing(before, after))
    return [change for change in changes if change[1:] != (None, None)] or changes


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    names = sorted(before.keys() | after.keys())
    for number, name in enumerate(names):
        came_or_went = before.get(name) is None and after.get(name) is None
        if came_or_went and any(other.startswith(f"{name}.") for other in names[number + 1 :]):
            continue  # a section that came or went: its keys say so
        if name not in before or name not in after or _plain(before[name]) != _plain(after[name]):
            yield name, before.get(name), after.get(name)


def _plain(value: Any) -> str:
    """As a record has it: a tuple is a list there, and 1 is not 1.0."""
    return json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= VALUE_CHARACTERS else f"{text[: VALUE_CHARACTERS - 1]}…"
