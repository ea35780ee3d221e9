"""What the verifiers can read: the parsers that gates' rules name ($math_answers, $program_tests)."""

import ast
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from steps.problem import FunctionTests
from steps.rewards.math.pool import MathPool
from steps.rewards.math.reference import reference_fault

LONGEST_TEST_CODE = 1_000_000
"""Characters of a function's tests; Python's parser takes some hundred times as many bytes."""


def parsers(pool: MathPool) -> dict[str, Callable[[Any], str | None]]:
    """By the name that rules use, what says why a value cannot be read; None where it can."""
    return {
        "math_answers": lambda answer: reference_fault(answer, pool),
        "program_tests": lambda tests: tests_fault(*tests),
    }


def tests_fault(tests: Sequence[tuple[str, str]], function: FunctionTests | None, checker: str = "") -> str | None:
    """Why a program cannot be judged by its tests; None where it can."""
    if not tests and function is None:
        return "no test"
    first: dict[str, tuple[int, str]] = {}
    for place, (stdin, expected) in enumerate(tests, 1):
        earlier, output = first.setdefault(stdin, (place, expected))
        if not checker and output.rstrip() != expected.rstrip():
            return f"tests {earlier} and {place} expect different outputs for the same input"
    if checker:
        parsed, problem = _parsed(checker, "checker")
        if parsed is None:
            return problem
    elif tests and not any(expected.strip() for _, expected in tests):
        return "no test expects an output: a program that does nothing would pass"
    return None if function is None else _function_fault(function)


def _function_fault(function: FunctionTests) -> str | None:
    for name in ("prelude", "setup"):
        parsed, problem = _parsed(getattr(function, name), name)
        if parsed is None:
            return problem
    check, problem = _parsed(function.check, "check")
    if check is None:
        return problem
    defined = Counter(node.name for node in check.body if isinstance(node, ast.FunctionDef))
    return None if defined["check"] else "check: defines no function check(candidate)"


def _parsed(source: str, name: str) -> tuple[ast.Module | None, str | None]:
    """The syntax tree of test code, which is not run here, or what is wrong with it."""
    if len(source) > LONGEST_TEST_CODE:
        return None, f"{name}: {len(source):,} characters, at most {LONGEST_TEST_CODE:,} are read"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.parse(source), None
    except SyntaxError as error:
        return None, f"{name}: line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return None, f"{name}: not Python ({type(error).__name__})"
