"""What became of the problems that test cases were made for (§2.3.5): how far each came, and the funnel of all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from steps.problem import Problem
from steps.rewards.case_problems import CaseProblem

Reached = Literal["given", "no special judge", "enough valid cases", "kept"]
"""How far a problem came, in the steps of the report's funnel."""


class Outcome(BaseModel):
    """What became of a problem."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    reached: Reached
    reason: str
    """Why it went no further. Holds nothing that a program wrote."""
    tests: tuple[tuple[str, str], ...] = ()
    """Valid cases: input and expected output."""
    submissions: tuple[str, ...] = ()
    """What each submission that ran is: "right", or its first failure, as in "test 3: wrong output"."""
    wrong: int = 0
    """Submissions known to be wrong that ran on the tests."""
    caught: int = 0
    """How many of those fail a test."""
    caught_by_sample: int = 0
    """How many fail the statement's own sample."""


@dataclass(frozen=True)
class Funnel:
    """How many problems are left after each step, and what the tests of those that are kept are worth."""

    problems: int
    no_special_judge: int
    enough_valid_cases: int
    retained: int
    wrong: int
    """Submissions known to be wrong, to problems that are kept."""
    caught: int
    caught_by_sample: int


def funnel(outcomes: Sequence[Outcome]) -> Funnel:
    """Count outcomes."""
    reached = Counter(outcome.reached for outcome in outcomes)
    return Funnel(
        problems=len(outcomes),
        no_special_judge=len(outcomes) - reached["given"],
        enough_valid_cases=reached["enough valid cases"] + reached["kept"],
        retained=reached["kept"],
        wrong=sum(outcome.wrong for outcome in outcomes),
        caught=sum(outcome.caught for outcome in outcomes),
        caught_by_sample=sum(outcome.caught_by_sample for outcome in outcomes),
    )


def kept_problems(problems: Sequence[CaseProblem], outcomes: Sequence[Outcome]) -> list[Problem]:
    """The problems that are kept, with their tests; the two stand in the same order."""
    return [
        problem.with_tests(outcome.tests)
        for problem, outcome in zip(problems, outcomes, strict=True)
        if outcome.reached == "kept"
    ]
