"""Progress, logs and tracking hand nothing to stages that a result could be made from, so keys leave them out."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from infra.stages.code_digest import reached_modules

ROOT = Path(__file__).parents[3]
NEUTRAL = ("infra.progress", "infra.tracking", "infra.notify")


def imported_names() -> set[tuple[str, str]]:
    """(module, name) of everything that the stages' other code imports from the neutral modules."""
    stages = sorted(path.stem for path in (ROOT / "steps" / "stages").glob("*.py") if path.stem != "__init__")
    reached = {module for stage in stages for module in reached_modules(f"steps.stages.{stage}")}
    names = set()
    for module in reached | {"infra.stages.runner"}:
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        if not module.startswith(NEUTRAL) and path.is_file():
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(NEUTRAL):
                    names |= {(str(node.module), alias.name) for alias in node.names}
    return names


def hands_back(value: Any) -> list[str]:
    """What a function, or a class's public methods, return other than nothing or a handle of which the same holds."""
    if inspect.isclass(value):
        # What makes the handle, and what enters it, returns the handle.
        methods = {name: each for name, each in vars(value).items() if name == "__exit__" or not name.startswith("_")}
        results = [f"{value.__name__}.{name}" for name, each in methods.items() if not isinstance(each, FunctionType)]
        for each in methods.values():
            results += hands_back(each) if isinstance(each, FunctionType) else []
        return results
    returned = get_type_hints(inspect.unwrap(value))["return"]
    if hasattr(value, "__wrapped__") and get_origin(returned) is Iterator:
        # A function made a context manager.
        (returned,) = get_args(returned)
        return [] if returned is None else hands_back(returned)
    return [] if returned is type(None) else [value.__qualname__]


SETTINGS = {("infra.tracking.tracker", "TrackingConfig"), ("infra.notify", "NotifyConfig")}
"""Models of a recipe's section of their own, which no stage has among its settings."""


def test_what_stages_import_from_neutral_modules_hands_nothing_back() -> None:
    names = imported_names()
    assert ("infra.progress.tasks", "task") in names and ("infra.tracking.tracker", "Tracker") in names
    for module, name in sorted(names - SETTINGS):
        assert hands_back(getattr(importlib.import_module(module), name)) == [], f"{module}.{name}"


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
    [(_number, ["_number"]), (_counting, ["_Counter.count"]), (_Counter, ["_Counter.count"])],
)
def test_a_value_handed_back_is_noticed(value: Any, actual: list[str]) -> None:
    assert hands_back(value) == actual
