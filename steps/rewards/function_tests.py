"""Function-call tests (HumanEval's form): a `check(candidate)` that calls the function and asserts about its results.

The test code runs in one box and the response's program in another. Between them go calls, results and exceptions
alone, in a closed encoding (function_values.py), so that no expected value, and nothing that decides, is ever where the
program is: what it redefines, prints or ends there changes only its own results. The tests' box makes values of its own
of them, of built-in types and of the problem's own classes, whose comparisons are not the program's.
"""

import json
from pathlib import Path

from infra.sandbox.interface import Limits, Result, Sandbox
from steps.problem import FunctionTests
from steps.rewards.output_checker import BrokenTests

LONGEST_RESULT = 8_000_000
"""Characters of one result as it is encoded."""


def _program(name: str) -> str:
    """The text of one side's program: a box has no file of the project to import."""
    # Whole names: by them the files are in the keys of stages that judge.
    parts = [Path(__file__).with_name(part) for part in ("function_values.py", "function_channel.py", name)]
    lines = [line for part in parts for line in part.read_text(encoding="utf-8").splitlines()]
    return "\n".join(line for line in lines if not line.startswith("from steps.rewards.function_")) + "\n"


_CHECKER, _CANDIDATE = _program("function_checker.py"), _program("function_candidate.py")


def run_function_tests(sandbox: Sandbox, program: str, tests: FunctionTests, limits: Limits) -> str | None:
    """What is wrong with a program, with the number of the call, from 1, at which it showed; None where nothing is.

    Raises SandboxUnavailable, and BrokenTests where the test code cannot be run.
    """
    setting = json.dumps(
        {"entry_point": tests.entry_point, "longest": LONGEST_RESULT, "in_place": tests.in_place}
    ).encode()
    both = {"setting.json": setting, "prelude.py": _source(tests.prelude)}
    checked, answered = sandbox.run_joined(
        _CHECKER,
        _CANDIDATE,
        limits,
        first_files=both | {"setup.py": _source(tests.setup), "check.py": _source(tests.check)},
        second_files=both | {"solution.py": _source(program)},
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
