"""Function-call tests (HumanEval's form): a `check(candidate)` that calls the function and asserts about its results.

The test code runs in one box and the response's program in another. Between them go calls and results alone, as
Python literals, so that no expected value, and nothing that decides, is ever where the program is: what it redefines,
prints or ends there changes only its own results. Results are read by `ast.literal_eval` in the tests' box: they are
plain values, whose comparisons are Python's own.
"""

import json
from pathlib import Path

from infra.sandbox.interface import Limits, Result, Sandbox
from steps.problem import FunctionTests

LONGEST_RESULT = 1_000_000
"""Characters of one result as a literal."""

_CHECKER = Path(__file__).with_name("function_checker.py").read_text(encoding="utf-8")
_CANDIDATE = Path(__file__).with_name("function_candidate.py").read_text(encoding="utf-8")


class BrokenTests(ValueError):
    """A problem's test code fails by itself, whatever the program does."""


def run_function_tests(sandbox: Sandbox, program: str, tests: FunctionTests, limits: Limits) -> str | None:
    """What is wrong with a program, with the number of the call, from 1, at which it showed; None where nothing is.

    Raises SandboxUnavailable, and BrokenTests where the test code cannot be run.
    """
    setting = json.dumps({"entry_point": tests.entry_point, "longest": LONGEST_RESULT}).encode()
    checked, answered = sandbox.run_joined(
        _CHECKER,
        _CANDIDATE,
        limits,
        first_files={"setting.json": setting, "setup.py": _source(tests.setup), "check.py": _source(tests.check)},
        second_files={"setting.json": setting, "solution.py": _source(program)},
    )
    if checked.ended == "finished" and checked.exit_code == 0:
        return None
    calls, fault = _reported(checked)
    if fault == "gone":
        fault = _why_gone(answered)
    return f"test {max(1, calls)}: {fault}"


def _source(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _reported(checked: Result) -> tuple[int, str]:
    """The number of calls and the fault, by the checker's last line."""
    if checked.ended != "finished":
        # The program kept it waiting, or its results were too much for it.
        return 1, checked.ended
    try:
        reported = json.loads(checked.stderr.rstrip().rpartition("\n")[2])
        return int(reported["calls"]), str(reported["fault"])
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenTests(f"the test code cannot be run: {checked.stderr.strip()[-500:]}") from error


def _why_gone(answered: Result) -> str:
    """Why the program's box gave no result."""
    if answered.ended != "finished":
        return answered.ended
    return f"exit code {answered.exit_code}" if answered.exit_code else "no result"
