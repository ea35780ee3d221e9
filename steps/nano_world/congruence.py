"""Congruence search: the smallest x with two given remainders, found by trying, checking, rejecting and continuing.

How many candidates a path goes through depends on the problem and on which remainder it walks along, so that the
lengths of responses have a heavy tail.
"""

from random import Random

from steps.nano_world.task import LICENCE, SOURCE, Task, boxed, thought
from steps.problem import Problem

LARGEST = 199
"""No candidate is larger."""


def candidates(modulus: int, remainder: int, last: int) -> list[int]:
    """The positive numbers up to `last` that leave `remainder`, in order."""
    return [x for x in range(1, last + 1) if x % modulus == remainder]


TRIES = {1: (1, 2), 2: (3, 4), 3: (5, 9), 4: (10, 23), 5: (24, 40)}
"""Per difficulty, how many candidates the longer of the two walks goes through."""


def make_search(rng: Random, difficulty: int) -> Task:
    """A search of one of the difficulties of TRIES."""
    while True:
        small = rng.randint(3, 6 if difficulty >= 4 else 9)
        large = rng.randint(small + 1, LARGEST // small)
        x = small * (rng.randint(*TRIES[difficulty]) - 1) + rng.randint(1, small)
        first = next(y for y in range(1, x + 1) if y % small == x % small and y % large == x % large)
        if x <= LARGEST and first == x and large <= 40:
            break
    prompt = f"Find the smallest positive x with x mod {small} = {x % small} and x mod {large} = {x % large}."
    problem = Problem(
        id=f"search-{difficulty}-{rng.getrandbits(48):012x}",
        prompt=prompt,
        answer=str(x),
        verifier="math",
        domain="search",
        discipline="number theory",
        difficulty=difficulty,
        source=SOURCE,
        licence=LICENCE,
    )
    answer = boxed(x)
    short = f"{x} mod {small} = {x % small}\n{x} mod {large} = {x % large}\n{answer}"

    def long(rng: Random) -> str:
        walk, test = (small, large) if rng.random() < 0.7 else (large, small)
        lines = [f"Plan: step by {walk}, test mod {test}."]
        for candidate in candidates(walk, x % walk, x):
            verdict = "yes." if candidate == x else "no."
            line = f"{candidate} mod {test} = {candidate % test}, {verdict}"
            if rng.random() < 0.03:
                slip = (candidate + rng.choice([1, -1, 2])) % test
                line = f"{candidate} mod {test} = {slip}. Wait: {line}"
            lines.append(line)
        if rng.random() < 0.6:
            lines += [f"Check: {x} mod {small} = {x % small}, yes.", f"Check: {x} mod {large} = {x % large}, yes."]
        return thought(lines, answer)

    return Task(problem, short, long)
