"""A stage's data gates, opened once: its rules, the problems held out for evaluation, and the verifiers' parsers."""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from infra.gates.suites import Suite
from infra.progress.tasks import say
from infra.stages.contract import StageContext
from steps.chat import Chat
from steps.gates.parsers import parsers
from steps.gates.tables import (
    Columns,
    TrainingRow,
    benchmark_parameters,
    example_frame,
    frame_of,
    held_out_parameters,
    problem_frame,
    training_frame,
)
from steps.problem import Example, Problem, load_problems
from steps.rewards.math.pool import MathPool


class Gates:
    """Checks tables by the rules of a stage's suite. Each method returns where the table passes, or raises GateFailed;
    results are kept with the stage either way. A table without rules is not checked.

    The stage's input `data` holds the problems that are held out (test.jsonl), and images.
    """

    def __init__(self, context: StageContext, suite: Suite) -> None:
        self._context = context
        self._suite = suite

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "_pool" in self.__dict__:
            self._pool.close()

    def test_problems(self) -> None:
        """Check the problems that are held out."""
        if "test problems" in self._suite:
            self._check("test problems", problem_frame(self._held_out), self._parsers)

    def problems(self, gate: str, problems: Sequence[Problem], **parameters: Any) -> None:
        """Check problems that a stage trains on: none may be held out. `parameters` are what rules may name besides."""
        if gate in self._suite:
            self._check(gate, problem_frame(problems), {**self._parsers, **self._held_out_parameters, **parameters})

    def examples(self, gate: str, examples: Sequence[Example], chat: Chat, max_tokens: int) -> None:
        """Check supervised examples: each fits `max_tokens`, and none is a problem that is held out."""
        if gate in self._suite:
            self._check(gate, example_frame(examples, chat), {**self._held_out_parameters, "max_tokens": max_tokens})

    def training_rows(self, rows: Sequence[TrainingRow], benchmarks: Mapping[str, Sequence[Problem]]) -> None:
        """Compare rows that models learn from with the problems of benchmarks, by name."""
        if "training rows" in self._suite and benchmarks:
            self._check("training rows", training_frame(rows), benchmark_parameters(benchmarks))

    def table(self, gate: str, columns: Columns) -> None:
        """Check a table whose rules name no parameters."""
        if gate in self._suite:
            self._check(gate, frame_of(columns), {})

    def _check(self, gate: str, frame: Any, parameters: Mapping[str, Any]) -> None:
        result = self._suite.run(gate, frame, parameters)
        self._context.gates.append(result)
        for complaint in result.broken("warn"):
            say(f"gate {gate!r} warns: {complaint}")
        result.raise_if_failed()

    @cached_property
    def _pool(self) -> MathPool:
        return MathPool(workers=1)

    @cached_property
    def _held_out(self) -> list[Problem]:
        return load_problems(self._context.inputs["data"] / "test.jsonl")

    @cached_property
    def _parsers(self) -> dict[str, Any]:
        return parsers(self._pool) | {"data_folder": os.fspath(self._context.inputs["data"])}

    @cached_property
    def _held_out_parameters(self) -> dict[str, Any]:
        return held_out_parameters(self._held_out)
