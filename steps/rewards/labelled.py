"""A labelled answer: what reward models are trained on and checked with. A type without behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steps.problem import Problem


@dataclass(frozen=True)
class Labelled:
    """A final answer of which it is known whether it is right."""

    problem: Problem
    answer: str
    form: str
    """How it is written, or "sampled" where a model wrote it."""
    right: bool


def labelled_table(answers: Sequence[Labelled]) -> dict[str, list[Any]]:
    """Labelled answers by columns, named by their place, from 1, and problem."""
    return {
        "id": [f"{place}:{one.problem.id}" for place, one in enumerate(answers, 1)],
        "reference": [one.problem.answer for one in answers],
        "answer": [one.answer for one in answers],
        "form": [one.form for one in answers],
        "right": [one.right for one in answers],
    }
