"""Figures of several responses to each problem: avg@n, pass@k and maj@k."""

import math
import statistics
from collections.abc import Callable, Sequence

Same = Callable[[str, str], bool]
"""Whether two answers are equal."""

MOST_ANSWERS = 32
"""Different answers to one problem that are compared with each other; a rarer one is a class of its own text."""


def pass_at(right: int, samples: int, k: int) -> float:
    """The unbiased estimate of the probability that one of k responses is right, given how many of `samples` are.

    1 - C(samples - right, k) / C(samples, k), as in Chen et al., arXiv:2107.03374, §2.1. `k` is at most `samples`.
    """
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def powers_of_two(samples: int) -> list[int]:
    """1, 2, 4, … up to the number of responses, which is always among them."""
    return sorted({2**power for power in range(samples.bit_length())} | {samples})


def classes_of(answers: Sequence[str | None], same: Same) -> list[int | None]:
    """For each answer the number of its class of equal ones, from 0; None for a response without an answer."""
    representatives: list[str] = []
    by_text: dict[str, int] = {}
    for answer in answers:
        if answer is None or answer in by_text:
            continue
        near = representatives[:MOST_ANSWERS]
        place = next((place for place, other in enumerate(near) if same(other, answer)), None)
        if place is None:
            place = len(representatives)
            representatives.append(answer)
        by_text[answer] = place
    return [None if answer is None else by_text[answer] for answer in answers]


def majority_at(classes: Sequence[int | None], right: Sequence[bool], k: int) -> float:
    """The share of right majorities among disjoint groups of k responses, in their order.

    Of classes with the same number of votes the one that came first wins. A group without an answer is wrong.
    """
    outcomes = []
    for start in range(0, len(classes) - k + 1, k):
        votes: dict[int, int] = {}
        first: dict[int, int] = {}
        for place in range(start, start + k):
            number = classes[place]
            if number is not None:
                votes[number] = votes.get(number, 0) + 1
                first.setdefault(number, place)
        # max takes the first of equals, and a dict has them in the order in which they came.
        outcomes.append(right[first[max(votes, key=lambda number: votes[number])]] if votes else False)
    return statistics.fmean(outcomes)


def clustered(means: Sequence[float]) -> tuple[float, float]:
    """Mean over problems and its standard error, each problem's responses being one cluster (analytic)."""
    error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    return statistics.fmean(means), error
