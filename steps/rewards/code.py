"""The verifier of programs (§2.3.5, §2.6.4): right when every test's standard output is the expected one, and when the
tests that call a function pass (steps/rewards/function_tests.py).

The expected outputs stay outside the sandbox. Trailing white space of lines and of the whole does not count.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from contextlib import closing
from dataclasses import asdict

from infra.sandbox.interface import Limits, Result, Sandbox
from steps.problem import Problem
from steps.rewards.function_tests import BrokenTests, run_function_tests
from steps.rewards.score import Verdict, python_program

VERSION = "code@2"
LIMITS = Limits(wall_seconds=20.0, cpu_seconds=4)
"""Of one test. The CPU seconds decide; the wall seconds, which depend on the machine's load, end what only waits."""

REMEMBERED = 100_000
"""Verdicts kept. RL sees the same short programs again and again."""


def normal_output(text: str) -> str:
    """A program's output as it is compared."""
    return "\n".join(line.rstrip() for line in text.rstrip().split("\n"))


def _fault(result: Result, expected: str) -> str | None:
    """What is wrong with a run, if anything is. Crashes come first: their output does not count."""
    if result.ended != "finished":
        return result.ended
    if result.exit_code != 0:
        return f"exit code {result.exit_code}"
    return None if normal_output(result.stdout) == normal_output(expected) else "wrong output"


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
        function = problem.function.model_dump() if problem.function else None
        key = hashlib.sha256(json.dumps([program, problem.tests, function, asdict(self._limits)]).encode()).digest()
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
        inputs = [stdin for stdin, _ in problem.tests]
        with closing(self._sandbox.run_each(program, inputs, self._limits)) as results:
            for number, (result, (_, expected)) in enumerate(zip(results, problem.tests, strict=True), 1):
                if fault := _fault(result, expected):
                    return Verdict(False, f"test {number}: {fault}")
        if problem.function:
            try:
                fault = run_function_tests(self._sandbox, program, problem.function, self._limits)
            except BrokenTests as error:
                raise BrokenTests(f"problem {problem.id!r}: {error}") from error
            if fault:
                return Verdict(False, fault)
        return Verdict(True, "right")
