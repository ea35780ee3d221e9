"""What every part of the nano world makes: a problem, its short solution, and long reasoning paths to it."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from steps.problem import Problem

SOURCE = "longhaul nano world"
LICENCE = "CC0-1.0"


@dataclass(frozen=True)
class Task:
    """A problem together with an author who can solve it."""

    problem: Problem
    short: str
    """A response with a short chain of thought, as vanilla SFT teaches it."""
    long: Callable[[Random], str]
    """Writes one long reasoning path as a full response; another state of the generator, another path."""


def boxed(answer: object) -> str:
    r"""The final answer as math data sets write it: `\boxed{…}`."""
    return f"\\boxed{{{answer}}}"


def thought(lines: list[str], answer: str) -> str:
    """A response whose reasoning stands in a think block before the answer."""
    return "<think>\n" + "".join(f"{line}\n" for line in lines) + "</think>\n" + answer
