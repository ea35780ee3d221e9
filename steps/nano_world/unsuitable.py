"""Prompts that curation must throw out (§2.1): multiple choice, true or false, proofs, and answers easy to guess."""

from random import Random

from steps.nano_world.task import LICENCE, SOURCE
from steps.problem import Problem


def _multiple_choice(rng: Random) -> tuple[str, str]:
    a, b = rng.randint(2, 90), rng.randint(2, 90)
    options = rng.sample([a + b, a + b + 1, a + b - 2, a + b + 10], 4)
    listed = " ".join(f"({letter}) {option}" for letter, option in zip("ABCD", options, strict=True))
    return f"What is {a} + {b}? {listed}", "ABCD"[options.index(a + b)]


def _true_or_false(rng: Random) -> tuple[str, str]:
    x, m = rng.randint(20, 199), rng.randint(3, 23)
    remainder = x % m if rng.random() < 0.5 else (x + 1) % m
    return f"True or false: {x} mod {m} = {remainder}.", str(x % m == remainder)


def _proof(rng: Random) -> tuple[str, str]:
    a, b = rng.randint(2, 30), rng.randint(2, 9)
    return f"Prove that {a} * {b} = {b} * {a}.", "proof"


def _guessable(rng: Random) -> tuple[str, str]:
    start, add, times = rng.randint(2, 60), rng.randint(2, 60), rng.randint(2, 9)
    prompt = f"Start with {start}. Add {add}. Multiply by {times}. Is the result even? Give 0 for even and 1 for odd."
    return prompt, str((start + add) * times % 2)


KINDS = {
    "multiple choice": _multiple_choice,
    "true or false": _true_or_false,
    "proof": _proof,
    "guessable": _guessable,
}


def make_unsuitable(rng: Random) -> Problem:
    """A problem of one of the KINDS."""
    kind = rng.choice(list(KINDS))
    prompt, answer = KINDS[kind](rng)
    return Problem(
        id=f"{kind.replace(' ', '-')}-{rng.getrandbits(48):012x}",
        prompt=prompt,
        answer=answer,
        verifier="math",
        domain=kind,
        discipline="elementary arithmetic",
        difficulty=1,
        source=SOURCE,
        licence=LICENCE,
    )
