"""Neutral modules hand nothing to stages' code that a result could be made from, so that keys may leave them out."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from flows.topology import STAGES
from infra.stages.code_digest import executed_nodes, reached_modules
from infra.stages.neutral import NEUTRAL, is_neutral

ROOT = Path(__file__).parents[3]


def imported_names() -> set[tuple[str, str]]:
    """(module, name) of everything that code in stages' keys imports from neutral modules."""
    names = set()
    for module in {module for spec in STAGES.values() for module in reached_modules(spec.module)}:
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        for node in executed_nodes(ast.parse(path.read_text())) if path.is_file() else ():
            if isinstance(node, ast.ImportFrom) and is_neutral(node.module or ""):
                names |= {(str(node.module), alias.name) for alias in node.names}
    return names


def hands_back(value: Any) -> list[str]:
    """What a function, or a class's public methods, return other than nothing, a folder to write to, or a handle of
    which the same holds. An exception hands nothing back."""
    if inspect.isclass(value):
        if issubclass(value, Exception):
            return []
        # What makes the handle, and what enters it, returns the handle.
        methods = {name: each for name, each in vars(value).items() if name == "__exit__" or not name.startswith("_")}
        results = [f"{value.__name__}.{name}" for name, each in methods.items() if not isinstance(each, FunctionType)]
        for each in methods.values():
            results += hands_back(each) if isinstance(each, FunctionType) else []
        return results
    if not callable(value):
        return [repr(value)]
    returned = get_type_hints(inspect.unwrap(value))["return"]
    if hasattr(value, "__wrapped__") and get_origin(returned) is Iterator:
        # A function made a context manager.
        (returned,) = get_args(returned)
        return [] if returned in (None, type(None), Path) else hands_back(returned)
    return [] if returned is type(None) else [value.__qualname__]


def test_what_stages_import_from_neutral_modules_hands_nothing_back() -> None:
    names = imported_names()
    assert {("infra.progress.tasks", "task"), ("steps.gates.gates", "Gates")} <= names
    for module, name in sorted(names):
        assert hands_back(getattr(importlib.import_module(module), name)) == [], f"{module}.{name}"


def test_each_neutral_module_has_its_reason() -> None:
    assert all(len(reason.split()) > 2 for reason in NEUTRAL.values())


class _Counter:
    def count(self) -> int:
        return 1


@contextmanager
def _counting() -> Iterator[_Counter]:
    yield _Counter()


def _number() -> int:
    return 1


@pytest.mark.parametrize(
    ("value", "actual"),
    [(_number, ["_number"]), (_counting, ["_Counter.count"]), (_Counter, ["_Counter.count"]), (7, ["7"])],
)
def test_a_value_handed_back_is_noticed(value: Any, actual: list[str]) -> None:
    assert hands_back(value) == actual
