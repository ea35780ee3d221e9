"""A labelled answer: what reward models are trained on and checked with. A type without behaviour."""

from dataclasses import dataclass

from steps.problem import Problem


@dataclass(frozen=True)
class Labelled:
    """A final answer of which it is known whether it is right."""

    problem: Problem
    answer: str
    form: str
    """How it is written, or "sampled" where a model wrote it."""
    right: bool
