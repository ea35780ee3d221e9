"""Outputs are compared by the rule that the problem names, and programs run as judges run them."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from infra.sandbox.config import SandboxConfig, open_sandbox
from infra.sandbox.interface import Limits, Sandbox
from steps.problem import Problem
from steps.rewards.code import CodeVerifier
from steps.rewards.output_checker import BrokenTests
from steps.rewards.output_rules import same_output


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = open_sandbox(SandboxConfig(slots=2))
    yield sandbox
    sandbox.close()


def problem(*tests: tuple[str, str], **fields: Any) -> Problem:
    return Problem(id="p", prompt="?", verifier="code", tests=tests, **fields)


def judged(sandbox: Sandbox, problem: Problem, program: str, limits: Limits | None = None) -> str:
    verifier = CodeVerifier(sandbox, limits) if limits else CodeVerifier(sandbox)
    return verifier.judge(problem, f"```python\n{program}\n```").reason


@pytest.mark.parametrize(
    ("rule", "output", "expected", "same"),
    [
        ("exact", "1 2\n3\n", "1 2\r\n3\r\n", True),
        ("exact", "1 2  \n3\n\n", "1 2\n3", True),
        ("exact", "1\n2\n3", "1 2\n3", False),
        ("tokens", "1\n2 \n\n3", "1 2\r\n3", True),
        ("tokens", "1 2", "1 2 3", False),
        ("tokens", "12 3", "1 23", False),
        ("floats 1e-6", "0.3333333", "0.33333333333", True),
        ("floats 1e-6", "3", "3.0", True),
        ("floats 1e-6", "1000000.5", "1000000.0", True),
        ("floats 1e-6", "0.33334", "0.33333", False),
        ("floats 1e-6", "yes 1.0", "yes 1", True),
        ("floats 1e-6", "no 1.0", "yes 1", False),
        ("floats 1e-6", "nan", "1", False),
        ("floats 1e-6", "inf", "1", False),
        ("floats 1e-6", "1e999", "1", False),
        ("floats 1e-6", "1", "1e999", False),
        ("floats 1e-6", "1 1", "1", False),
        ("floats 0", "1.0", "1", True),
    ],
)
def test_an_output_is_right_by_the_rule(rule: str, output: str, expected: str, same: bool) -> None:
    assert same_output(rule, output, expected) is same


@pytest.mark.parametrize(
    "fields",
    [
        {"compare": "float"},
        {"compare": "floats"},
        {"compare": "floats -1"},
        {"compare": "checker"},
        {"checker": "pass"},
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        problem(("1", "1"), **fields)


def test_a_problem_is_judged_by_its_own_rule(sandbox: Sandbox) -> None:
    tests = ("", "1 2\r\n")
    assert judged(sandbox, problem(tests), "print(1, 2)") == "right"
    assert judged(sandbox, problem(tests), "print(1)\nprint(2)") == "test 1: wrong output"
    assert judged(sandbox, problem(tests, compare="tokens"), "print(1)\nprint(2)") == "right"
    assert judged(sandbox, problem(tests, compare="floats 1e-3"), "print(1.0001, 2)") == "right"


SUM = """
total = int(open("input.txt").read())
a, b = map(int, open("output.txt").read().split())
raise SystemExit(0 if a + b == total else 1)
"""


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("n = int(input())\nprint(1, n - 1)", "right"),
        ("n = int(input())\nprint(n, 0)", "right"),
        ("print(1, 2)", "test 2: wrong output"),
        ("print('one')", "test 1: wrong output (the checker cannot read it)"),
        ("n = int(input())\nprint(n, 0)\nassert n < 5", "test 2: exit code 1"),
        (
            "import os\nprint(os.listdir('/tmp'), os.listdir('/box'))",
            "test 1: wrong output (the checker cannot read it)",
        ),
    ],
)
def test_a_problems_checker_decides_between_several_outputs(sandbox: Sandbox, program: str, reason: str) -> None:
    pair = problem(("3\n", "0 3\n"), ("9\n", "0 9\n"), compare="checker", checker=SUM)
    assert judged(sandbox, pair, program) == reason


def test_a_checker_that_does_not_accept_the_expected_output_is_the_problems_fault(sandbox: Sandbox) -> None:
    broken = problem(("3\n", "0 3\n"), compare="checker", checker="import nothing")
    with pytest.raises(BrokenTests, match=r"(?s)problem 'p': the checker .*nothing"):
        judged(sandbox, broken, "print(1, 2)")


def test_an_integer_of_5000_digits_is_printed_and_read(sandbox: Sandbox) -> None:
    digits = "7" * 5000
    assert judged(sandbox, problem((digits, digits)), "print(int(input()))") == "right"


def test_two_megabytes_of_output_are_an_output(sandbox: Sandbox) -> None:
    assert judged(sandbox, problem(("", "x" * 2_000_000)), "print('x' * 2_000_000)") == "right"


def test_a_problem_that_expects_more_than_the_limit_has_more(sandbox: Sandbox) -> None:
    limits = Limits(wall_seconds=20, cpu_seconds=4, output_bytes=1000)
    long = problem(("", "x" * 3000))
    assert judged(sandbox, long, "print('x' * 3000)", limits) == "right"
    assert judged(sandbox, long, "print('x' * 7000)", limits) == "test 1: output"


def test_input_and_output_are_utf_8(sandbox: Sandbox) -> None:
    text = "naïve – 東京 🙂"
    program = (
        "import sys\nline = input()\nprint(line)\nprint(len(line), sys.stdin.encoding, open('/tmp/x', 'w').encoding)"
    )
    expected = f"{text}\n{len(text)} utf-8 utf-8"
    assert judged(sandbox, problem((text, expected)), program).replace("UTF", "utf") == "right"
