"""The verifier of programs (§2.3.5, §2.6.4): right when every test's standard output is the expected one, and when the
tests that call a function pass (steps/rewards/function_tests.py).

The expected outputs stay outside the program's box. How outputs are compared is the problem's to say
(steps/rewards/output_rules.py).
"""

import hashlib
import json
import threading
from collections import OrderedDict
from contextlib import closing
from dataclasses import asdict, replace

from infra.sandbox.interface import Limits, Result, Sandbox
from steps.problem import Problem
from steps.rewards.function_tests import run_function_tests
from steps.rewards.output_checker import BrokenTests, checked_fault
from steps.rewards.output_rules import same_output
from steps.rewards.score import Verdict, python_program

VERSION = "code@3"
LIMITS = Limits(wall_seconds=20.0, cpu_seconds=4, output_bytes=4_000_000)
"""Of one test. The CPU seconds decide; the wall seconds, which depend on the machine's load, end what only waits.
A problem that expects more output than these bytes has more."""

MOST_OUTPUT = 16_000_000
"""Bytes of output that a problem can have at most."""

REMEMBERED = 100_000
"""Verdicts kept. RL sees the same short programs again and again."""


def _fault(result: Result) -> str | None:
    """Why a run's output does not count, if it does not."""
    if result.ended != "finished":
        return result.ended
    return f"exit code {result.exit_code}" if result.exit_code != 0 else None


class CodeVerifier:
    """Runs programs against tests, and remembers what it saw. Safe to call from several threads."""

    def __init__(self, sandbox: Sandbox, limits: Limits = LIMITS) -> None:
        self._sandbox = sandbox
        self._limits = limits
        self._seen: OrderedDict[bytes, Verdict] = OrderedDict()
        self._lock = threading.Lock()

    def judge(self, problem: Problem, response: str) -> Verdict:
        """Judge a response's program; the reason names the first test that fails, from 1. Raises SandboxUnavailable."""
        program = python_program(response)
        if program is None:
            return Verdict(False, "no program")
        judging = problem.model_dump(include={"tests", "function", "compare", "checker"})
        key = hashlib.sha256(json.dumps([program, judging, asdict(self._limits)]).encode()).digest()
        with self._lock:
            verdict = self._seen.get(key)
            if verdict is not None:
                self._seen.move_to_end(key)
                return verdict
        verdict = self._run_tests(program, problem)
        with self._lock:
            self._seen[key] = verdict
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return verdict

    def close(self) -> None:
        """Close the sandbox."""
        self._sandbox.close()

    def _run_tests(self, program: str, problem: Problem) -> Verdict:
        try:
            fault = self._outputs_fault(program, problem)
            if fault is None and problem.function:
                fault = run_function_tests(self._sandbox, program, problem.function, self._limits)
        except BrokenTests as error:
            raise BrokenTests(f"problem {problem.id!r}: {error}") from error
        return Verdict(fault is None, fault or "right")

    def _outputs_fault(self, program: str, problem: Problem) -> str | None:
        """What is wrong with the first output that is not as expected; None where all are."""
        inputs = [stdin for stdin, _ in problem.tests]
        longest = max((len(expected.encode("utf-8", "surrogatepass")) for _, expected in problem.tests), default=0)
        most = max(self._limits.output_bytes, min(2 * longest, MOST_OUTPUT))
        limits = replace(self._limits, output_bytes=most)
        outputs: list[str] = []
        fault = None
        with closing(self._sandbox.run_each(program, inputs, limits)) as results:
            for result, (_, expected) in zip(results, problem.tests, strict=True):
                fault = _fault(result)
                if fault is None and problem.compare != "checker":
                    fault = None if same_output(problem.compare, result.stdout, expected) else "wrong output"
                if fault:
                    break
                outputs.append(result.stdout)
        if problem.compare == "checker":
            # Not within the loop: the program's box holds a slot, and the checker's needs another.
            for number, (output, (stdin, expected)) in enumerate(zip(outputs, problem.tests, strict=False), 1):
                wrong = checked_fault(self._sandbox, problem.checker, self._limits, stdin, output, expected)
                if wrong:
                    return f"test {number}: {wrong}"
        return f"test {len(outputs) + 1}: {fault}" if fault else None
