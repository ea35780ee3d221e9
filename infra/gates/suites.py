"""Suites: the rules of a stage's gates as data.

A stage's suite is a YAML file that names the stage's tables, and under each the rules that it must keep:

    RL prompts:
      - {type: expect_column_values_to_be_unique, kwargs: {column: id}}
      - include: apart from the test problems
      - type: ExpectColumnTokenLengthsToBeBetween
        kwargs: {column: tokens, max_value: $max_tokens}
        severity: warn
        description: "no prompt is longer than $max_tokens tokens"

`type` and `kwargs` are Great Expectations' (infra/gates/expectations.py adds to its rules); `$name` is what the run
knows by that name; `include` puts in a list of rules from `shared.yaml` beside the file.

Invariant: a suite that was read names only tables, columns, parameters and rules that there are, with arguments that
the rules take. Comments, order of keys and spelling of a rule's name do not matter: equal suites are equal as data.
"""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel, ValidationError, field_validator

from infra.gates.errors import SuiteRefused
from infra.gates.result import GateResult, Severity

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations import Expectation

SHARED = "shared.yaml"
"""The file of a folder of suites whose lists others include."""

Kind = Literal["number", "digests", "texts", "parser", "folder", "images"]
"""What a parameter is: a number stands in place of an argument; infra/gates/expectations.py
says what the others are."""

_PARAMETER = re.compile(r"\$([a-z][a-z0-9_]*)")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "sum_columns")


@dataclass(frozen=True)
class Table:
    """A table that a stage checks: what rules about it may name."""

    columns: Set[str]
    parameters: Mapping[str, Kind]


Tables = Mapping[str, Table]
"""A stage's tables, by the names of their gates."""


class Rule(BaseModel):
    """One rule of a gate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = Field(description="Name of the expectation: expect_column_… or ExpectColumn….")
    kwargs: dict[str, JsonValue] = Field({}, description="Its arguments.")
    severity: Severity = Field("stop", description="What it does where it does not hold: stop the stage, or warn.")
    description: str | None = Field(None, description="The rule in words, for messages and pages.")

    @field_validator("type")
    @classmethod
    def _in_one_spelling(cls, value: str) -> str:
        return _HUMP.sub("_", value).lower()


class Suite(RootModel[dict[str, tuple[Rule, ...]]]):
    """The rules of a stage's gates, by table."""

    model_config = ConfigDict(frozen=True)

    def __contains__(self, gate: str) -> bool:
        return bool(self.root.get(gate))

    def run(self, gate: str, frame: "pd.DataFrame", parameters: Mapping[str, Any]) -> GateResult:
        """What the rules of a gate find in a table whose column `id` names rows. Raises SuiteRefused."""
        from infra.gates.evaluate import evaluate

        rules = []
        for place, rule in enumerate(self.root[gate], 1):
            where = f"gate {gate!r}, rule {place} ({rule.type})"
            rules.append((_built(rule, parameters, where), rule.severity))
        return evaluate(gate, frame, rules, parameters)


class _Include(BaseModel):
    model_config = ConfigDict(extra="forbid")

    include: str


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _lists(path: Path, what: str) -> dict[str, list[Any]]:
    """The named lists of a file."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteRefused(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise SuiteRefused(f"{path} is not YAML: {error}") from error
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        raise SuiteRefused(f"{path} holds {type(raw).__name__}; expected a mapping from {what} to lists of rules")
    for name, rules in raw.items():
        if not isinstance(name, str) or not isinstance(rules, list):
            raise SuiteRefused(f"{path}: {name!r}: expected the name of {what} and a list of rules (`[]` for none)")
    return raw


def _rule(raw: Any, where: str) -> Rule:
    if isinstance(raw, dict) and isinstance(raw.get("type"), str) and "kwargs" in raw and raw["kwargs"] is None:
        raise SuiteRefused(f"{where}: kwargs is empty: give arguments, or leave the key out")
    try:
        return Rule.model_validate(raw)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"]) or "rule"
            unknown = problem["type"] == "extra_forbidden"
            known = ", ".join(Rule.model_fields)
            problems.append(f"{key}: " + (f"unknown key; a rule has {known}" if unknown else problem["msg"]))
        raise SuiteRefused(f"{where}: {'; '.join(problems)}") from error


def load_shared(folder: Path) -> dict[str, list[Any]]:
    """The lists of a folder that its suites include; none without the file. Raises SuiteRefused."""
    path = folder / SHARED
    return _lists(path, "a list") if path.exists() else {}


def load_suite(path: Path, tables: Tables, shared: Mapping[str, list[Any]]) -> Suite:
    """A stage's suite from its file, checked but for the rules' names and arguments (`check_rules`).

    Raises SuiteRefused naming file, gate, rule and key.
    """
    suite: dict[str, tuple[Rule, ...]] = {}
    for gate, entries in _lists(path, "a table").items():
        rules = []
        for place, entry in enumerate(entries, 1):
            where = f"{path}: gate {gate!r}, rule {place}"
            if not isinstance(entry, dict) or "include" not in entry:
                rules.append(_rule(entry, where))
                continue
            try:
                name = _Include.model_validate(entry).include
            except ValidationError as error:
                raise SuiteRefused(f"{where}: include takes the name of one list, and nothing beside it") from error
            if name not in shared:
                known = ", ".join(sorted(shared)) or "none"
                raise SuiteRefused(f"{where}: include: {name!r} is not a list of {SHARED}; there are: {known}")
            rules += [_rule(one, f"{where}, {SHARED} {name!r}, rule {n}") for n, one in enumerate(shared[name], 1)]
        suite[gate] = tuple(rules)
    checked = Suite(suite)
    check_names(checked, tables, str(path))
    return checked


def check_names(suite: Suite, tables: Tables, source: str) -> None:
    """Raise SuiteRefused for a table, column or parameter that a stage does not have. `source` is what it is called."""
    for gate, rules in suite.root.items():
        if gate not in tables:
            raise SuiteRefused(f"{source}: gate {gate!r}: the stage has no such table; its tables: {_all(tables)}")
        table = tables[gate]
        for place, rule in enumerate(rules, 1):
            where = f"{source}: gate {gate!r}, rule {place} ({rule.type})"
            for key, value in rule.kwargs.items():
                if key not in _COLUMN_ARGUMENTS:
                    continue
                for column in value if isinstance(value, list) else [value]:
                    if column not in table.columns:
                        raise SuiteRefused(
                            f"{where}: {key}: the table has no column {column!r}; its columns: {_all(table.columns)}"
                        )
            named = [value for value in rule.kwargs.values() if isinstance(value, str) and _PARAMETER.fullmatch(value)]
            for name in [*(value[1:] for value in named), *_PARAMETER.findall(rule.description or "")]:
                if name not in table.parameters:
                    raise SuiteRefused(
                        f"{where}: ${name} is nothing that the run knows here; there are: "
                        f"{_all('$' + known for known in table.parameters)}"
                    )


def _all(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"


_SAMPLES: dict[Kind, Any] = {
    "number": 1,
    "digests": frozenset(),
    "texts": (),
    "parser": None,
    "folder": ".",
    "images": (),
}
"""Values to try rules with before the run has any."""


def check_rules(suite: Suite, tables: Tables, source: str) -> None:
    """Build every rule. Raises SuiteRefused for names and arguments that Great Expectations does not take.

    NOTE: loads Great Expectations, which takes some seconds.
    """
    for gate, rules in suite.root.items():
        kinds = tables[gate].parameters
        samples = {name: _SAMPLES[kind] for name, kind in kinds.items()}
        for place, rule in enumerate(rules, 1):
            where = f"{source}: gate {gate!r}, rule {place} ({rule.type})"
            _check_kinds(rule, kinds, where)
            _built(rule, samples, where)


def _check_kinds(rule: Rule, kinds: Mapping[str, Kind], where: str) -> None:
    from infra.gates.rules import expectation_class

    references: Mapping[str, Kind] = getattr(expectation_class(rule.type, where), "references", {})
    for key, value in rule.kwargs.items():
        named = _PARAMETER.fullmatch(value) if isinstance(value, str) else None
        expected = references.get(key, "number")
        fitting = _all("$" + name for name, kind in kinds.items() if kind == expected)
        if named is not None and kinds[named[1]] != expected:
            raise SuiteRefused(f"{where}: {key}: {value} does not fit here; what does: {fitting}")
        if key in references and named is None:
            raise SuiteRefused(f"{where}: {key}: {value!r}: name what the run knows: {fitting}")


def _built(rule: Rule, parameters: Mapping[str, Any], where: str) -> "Expectation":
    """The rule as Great Expectations' object, with the run's values in place of their names."""
    from infra.gates.rules import build, expectation_class

    references = getattr(expectation_class(rule.type, where), "references", {})
    kwargs: dict[str, Any] = {}
    for key, value in rule.kwargs.items():
        named = _PARAMETER.fullmatch(value) if isinstance(value, str) and key not in references else None
        kwargs[key] = parameters[named[1]] if named else value
    return build(rule.type, kwargs, _description(rule, parameters), where)


def _description(rule: Rule, parameters: Mapping[str, Any]) -> str | None:
    """The description, with numbers, and sizes of collections, in place of the names."""
    if rule.description is None:
        return None

    def value(match: re.Match[str]) -> str:
        parameter = parameters[match[1]]
        sized = hasattr(parameter, "__len__") and not isinstance(parameter, str)
        return str(len(parameter) if sized else parameter)

    return _PARAMETER.sub(value, rule.description)
