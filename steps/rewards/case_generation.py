"""Test cases for problems that have none (§2.3.5).

A generator (steps/rewards/generators.py) makes 50 inputs, and 10 submissions that are taken to be right run on each. An
input on which at least 7 of them print the same is a valid case, and what they print is its expected output. A problem
is kept if at least 40 cases are valid and at least 9 of the 10 submissions pass all of them. In the report 614 of 1,000
problems needed no special judge, 463 generators made 40 valid cases, and 323 problems were kept.

Added to the report: the same input counts once; a generator has to make a case again when asked again; and the
expected outputs may not all be alike, or a program that prints a constant would be right.

    longhaul test-cases examples/test_cases --out problems.jsonl

Generators and submissions are programs that nobody has read: they run in the sandbox, under limits.
"""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from infra.progress.tasks import Task, task
from infra.sandbox.interface import Limits, Result, Sandbox
from steps.configs.case_generation import CaseGenerationConfig
from steps.rewards.case_outcomes import Outcome, Reached
from steps.rewards.case_problems import CaseProblem, Submission, needs_special_judge
from steps.rewards.output_rules import normal_output

VERSION = "test_cases@1"
GENERATOR_LANGUAGE = "cyaron"
"""The sandbox's image that has CYaRon."""


def _limits(config: CaseGenerationConfig, output_bytes: int) -> Limits:
    """Of one run."""
    return Limits(
        wall_seconds=config.wall_seconds,
        cpu_seconds=config.cpu_seconds,
        memory_mb=config.memory_mb,
        output_bytes=output_bytes,
    )


@dataclass(frozen=True)
class _Answer:
    """What a submission made of an input."""

    output: str | None  # normalised; None where the run failed
    fault: str  # why it failed; empty where it did not


def _run_fault(result: Result) -> str:
    if result.ended != "finished":
        return result.ended
    return f"exit code {result.exit_code}" if result.exit_code != 0 else ""


class _Maker:
    """Makes the test cases of one problem, in runs that other problems' runs stand in line with."""

    def __init__(
        self,
        problem: CaseProblem,
        config: CaseGenerationConfig,
        sandbox: Sandbox,
        runs: Executor,
        progress: Task,
        stop: threading.Event,
    ) -> None:
        self._problem = problem
        self._config = config
        self._sandbox = sandbox
        self._runs = runs
        self._progress = progress
        self._stop = stop
        self._outputs: dict[str, str] = {}  # one object for each, however many submissions print it
        self._runs_left = config.runs
        self._lock = threading.Lock()

    def make(self, no_generator: str) -> Outcome:
        """Take the problem through all steps; `no_generator` says why it has none. Raises SandboxUnavailable."""
        outcome = self._make(no_generator)
        self._progress.advance(self._runs_left)
        return outcome

    def _make(self, no_generator: str) -> Outcome:
        problem, config = self._problem, self._config

        def dropped(reached: Reached, reason: str, **facts: Any) -> Outcome:
            return Outcome(id=problem.id, reached=reached, reason=reason, **facts)

        kind = needs_special_judge(problem)
        if kind is not None:
            return dropped("given", f"needs a special judge: {kind}")
        if problem.generator is None:
            return dropped("no special judge", no_generator)
        submissions = list(dict.fromkeys(problem.submissions))  # a program that is there twice would agree with itself
        if len(submissions) < config.submissions:
            reason = f"{len(submissions)} different submissions; {config.submissions} are needed"
            return dropped("no special judge", reason)
        inputs, fault = self._make_inputs(problem.generator)
        if fault:
            return dropped("no special judge", f"generator: {fault}")
        answers = self._run_submissions(submissions, inputs)
        expected = [self._agreed(row) for row in zip(*answers, strict=True)]
        verdicts = tuple(_first_failure(column, expected) for column in answers)
        tests = tuple((text, f"{out}\n") for text, out in zip(inputs, expected, strict=True) if out is not None)
        if len(tests) < config.valid:
            reason = f"{len(tests)} of {len(inputs)} cases are valid; {config.valid} are needed"
            return dropped("no special judge", reason, submissions=verdicts)
        passing = verdicts.count("right")
        if passing < config.passing:
            reason = f"{passing} of {config.submissions} submissions pass all valid cases; {config.passing} are needed"
            return dropped("enough valid cases", reason, tests=tests, submissions=verdicts)
        different = len({output for _, output in tests})
        if different < config.different_outputs:
            reason = f"its valid cases have {different} different outputs; {config.different_outputs} are needed"
            return dropped("enough valid cases", reason, tests=tests, submissions=verdicts)
        sample = () if problem.sample is None else (problem.sample,)
        return Outcome(
            id=problem.id,
            reached="kept",
            reason="kept",
            tests=tests,
            submissions=verdicts,
            wrong=len(problem.wrong),
            caught=self._caught(tests),
            caught_by_sample=self._caught(sample),
        )

    def _count_run(self) -> None:
        if self._stop.is_set():
            raise CancelledError
        with self._lock:
            self._runs_left -= 1
        self._progress.advance(1)

    def _generate(self, program: str, case: int) -> Result:
        seed = Random(f"{self._config.seed} {self._problem.id} case {case}").getrandbits(31)
        limits = _limits(self._config, self._config.input_bytes)
        # A box for each: a case may not depend on what the making of another left behind.
        return self._sandbox.run(program, f"{case} {seed}\n", limits, language=GENERATOR_LANGUAGE)

    def _make_inputs(self, program: str) -> tuple[list[str], str]:
        """Different inputs, in the order of their cases; and, if they are too few or not to be made again, why."""
        config = self._config
        futures = [self._runs.submit(self._generate, program, case) for case in range(1, config.cases + 1)]
        inputs: dict[str, tuple[int, str]] = {}  # by their normal form: the case and the text
        faults: Counter[str] = Counter()
        for case, future in enumerate(futures, 1):
            result = future.result()
            self._count_run()
            text = normal_output(result.stdout)
            fault = _run_fault(result)
            if not fault and not text.strip():
                fault = "nothing printed"
            if not fault and text in inputs:
                fault = "the same as one before"
            if fault:
                faults[fault] += 1
            else:
                inputs[text] = (case, result.stdout)
            # In the order of the cases, so that the reason does not depend on which run ends first.
            if faults.total() > config.cases - config.valid:
                for waiting in futures:
                    waiting.cancel()
                counts = ", ".join(f"{count} × {fault}" for fault, count in faults.most_common())
                return [], f"{config.valid} different cases are out of reach after {case} of {config.cases}: {counts}"
        last, text = list(inputs.values())[-1]
        again = self._generate(program, last)
        if fault := _run_fault(again):
            return [], f"case {last} cannot be made again: {fault}"
        if again.stdout != text:
            return [], f"case {last} differs when it is made again: it does not depend on the seed alone"
        return [text for _, text in inputs.values()], ""

    def _run_submissions(self, submissions: Sequence[Submission], inputs: Sequence[str]) -> list[list[_Answer]]:
        """Answers of as many submissions as are wanted, by submission and input."""
        rng = Random(f"{self._config.seed} {self._problem.id} submissions")
        chosen = sorted(rng.sample(range(len(submissions)), self._config.submissions))
        return list(self._runs.map(lambda number: self._answers(submissions[number], inputs), chosen))

    def _answers(self, submission: Submission, inputs: Sequence[str]) -> list[_Answer]:
        config = self._config
        answers: list[_Answer] = []
        timeouts = 0
        limits = _limits(config, config.output_bytes)
        with closing(self._sandbox.run_each(submission.program, inputs, limits, language=submission.language)) as runs:
            for result in runs:
                self._count_run()
                fault = _run_fault(result)
                output = normal_output(result.stdout)
                answers.append(_Answer(None if fault else self._outputs.setdefault(output, output), fault))
                timeouts += result.ended == "time"
                if timeouts == config.timeouts:
                    break
        return answers + [_Answer(None, "not run")] * (len(inputs) - len(answers))

    def _agreed(self, answers: Iterable[_Answer]) -> str | None:
        """The output that enough submissions print, if there is one: it is more than half of them."""
        outputs = Counter(answer.output for answer in answers if answer.output is not None)
        return next((out for out, count in outputs.items() if count >= self._config.agreeing), None)

    def _caught(self, tests: Sequence[tuple[str, str]]) -> int:
        """How many of the submissions that are known to be wrong fail a test."""
        return sum(self._runs.map(lambda submission: self._fails(submission, tests), self._problem.wrong))

    def _fails(self, submission: Submission, tests: Sequence[tuple[str, str]]) -> bool:
        limits = _limits(self._config, self._config.output_bytes)
        inputs = [text for text, _ in tests]
        with closing(self._sandbox.run_each(submission.program, inputs, limits, language=submission.language)) as runs:
            return any(
                _run_fault(result) or normal_output(result.stdout) != normal_output(expected)
                for result, (_, expected) in zip(runs, tests, strict=True)
            )


def _first_failure(answers: Sequence[_Answer], expected: Sequence[str | None]) -> str:
    """What a submission is by the valid cases, which are numbered from 1 as the tests that they become."""
    valid = [(answer, output) for answer, output in zip(answers, expected, strict=True) if output is not None]
    for number, (answer, output) in enumerate(valid, 1):
        if answer.output != output:
            return f"test {number}: {answer.fault or 'wrong output'}"
    return "right"


class _Entry(BaseModel):
    """A line of the journal."""

    key: str
    outcome: Outcome


class _Journal:
    """Outcomes on disk as they come, for interrupted work to continue from; a line that was cut off does not count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.outcomes: dict[str, Outcome] = {}
        for line in path.read_bytes().split(b"\n") if path.exists() else ():
            with suppress(ValidationError):
                entry = _Entry.model_validate_json(line)
                self.outcomes[entry.key] = entry.outcome

    def add(self, key: str, outcome: Outcome) -> None:
        line = _Entry(key=key, outcome=outcome).model_dump_json(exclude_defaults=True)
        with self._lock, self._path.open("ab") as file:
            file.write(f"\n{line}\n".encode())  # the line before may have no end


def make_test_cases(
    problems: Sequence[CaseProblem],
    config: CaseGenerationConfig,
    sandbox: Sandbox,
    slots: int = 2,
    missing: Mapping[str, str] = MappingProxyType({}),
    journal: Path | None = None,
) -> list[Outcome]:
    """Make the test cases of problems; the outcomes stand in their order. Raises SandboxUnavailable.

    Args:
        slots: runs at one time, and problems.
        missing: why a problem has no generator, by id, as `write_generators` says.
        journal: a file that takes outcomes as they come, and gives those that it holds. Whoever saves the result
            deletes it.
    """
    records = None if journal is None else _Journal(journal)

    def make(problem: CaseProblem) -> Outcome:
        no_generator = missing.get(problem.id, "no generator")
        parts = [VERSION, problem.model_dump_json(), config.model_dump_json(), no_generator]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        if records is not None and key in records.outcomes:
            progress.advance(config.runs)
            return records.outcomes[key]
        outcome = _Maker(problem, config, sandbox, runs, progress, stop).make(no_generator)
        if records is not None:
            records.add(key, outcome)
        return outcome

    # Two pools: what waits for runs may not hold the threads that run.
    stop = threading.Event()
    runs, waiting = ThreadPoolExecutor(slots, "runs"), ThreadPoolExecutor(slots, "problems")
    try:
        with task("test cases", total=len(problems) * config.runs, unit="runs") as progress:
            return list(waiting.map(make, problems))
    finally:
        stop.set()
        waiting.shutdown(wait=False, cancel_futures=True)
        runs.shutdown(cancel_futures=True)
        waiting.shutdown()
