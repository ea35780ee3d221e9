"""Final answers of the nano world in many forms, right ones and wrong ones near them, and an author who judges them.

Which of them are right is not decided here: the rules say so (`steps/rewards/math`).
"""

import re
from collections.abc import Callable
from random import Random

from steps.nano_world.task import thought

_WHOLE = re.compile(r"-?[0-9]{1,6}")

_LARGEST_TOP = 199
"""No fraction has a larger numerator: a small model knows no larger numbers."""


def _fraction(rng: Random, value: int) -> tuple[int, int]:
    most = max(1, min(9, _LARGEST_TOP // max(1, abs(value))))
    bottom = rng.randint(min(2, most), most)
    return value * bottom, bottom


def _slash(rng: Random, value: int) -> str:
    top, bottom = _fraction(rng, value)
    return f"{top}/{bottom}"


def _latex_fraction(rng: Random, value: int) -> str:
    top, bottom = _fraction(rng, value)
    return f"\\frac{{{top}}}{{{bottom}}}"


def _product(rng: Random, value: int) -> str:
    factor = rng.choice([d for d in range(1, 10) if value % d == 0])
    return f"{value // factor}*{factor}"


def _sum(rng: Random, value: int) -> str:
    part = rng.randint(1, 9)
    return f"{value - part}+{part}"


FORMS: dict[str, Callable[[Random, int], str]] = {
    "plain": lambda rng, value: str(value),
    "decimal": lambda rng, value: f"{value}.{'0' * rng.randint(1, 2)}",
    "tenths": lambda rng, value: f"{value}.{rng.randint(1, 9)}",
    "plus sign": lambda rng, value: f"+{value}" if value >= 0 else str(value),
    "leading zeros": lambda rng, value: f"{'0' * rng.randint(1, 2)}{value}" if value >= 0 else str(value),
    "assignment": lambda rng, value: f"x = {value}",
    "math mode": lambda rng, value: f"${value}$",
    "fraction": _slash,
    "LaTeX fraction": _latex_fraction,
    "product": _product,
    "sum": _sum,
}
"""How a number can be written. Tenths are a different number; a product or a sum is left for the reader to compute."""


def near(rng: Random, value: int) -> int:
    """A wrong number that a mistake leads to: off by one or ten, digits swapped, sign lost, a zero too many."""
    swapped = int(str(abs(value))[::-1])
    slips = [value - 1, value + 1, value - 10, value + 10, swapped, -value, value * 10]
    return rng.choice([slip for slip in slips if slip != value])


def rewritten(rng: Random, reference: str, count: int) -> list[tuple[str, str]]:
    """Answers in different forms, with the form's name: two of three from the reference, one from a number near it.

    Nothing for a reference that is not a whole number.
    """
    if not _WHOLE.fullmatch(reference):
        return []
    forms = rng.sample(list(FORMS), min(count, len(FORMS)))
    answers = []
    for place, form in enumerate(forms):
        value = near(rng, int(reference)) if place % 3 == 2 else int(reference)
        answers.append((form, FORMS[form](rng, value)))
    return answers


_SIMPLER = (
    (re.compile(r"\$(.+)\$"), r"\1"),
    (re.compile(r"x ?= ?(.+)"), r"\1"),
    (re.compile(r"\+(.+)"), r"\1"),
    (re.compile(r"0+([0-9].*)"), r"\1"),
    (re.compile(r"(.+)\.0*"), r"\1"),
    (re.compile(r"\\frac\{(-?[0-9]+)\}\{([0-9]+)\}"), r"\1/\2"),
)
"""Ways to write a number, and what is left once they are taken away."""


def judgement(reference: str, answer: str, right: bool) -> str:
    """How an author judges: takes the answer's form away, step by step, and subtracts. Ends with yes or no."""
    lines, bare = [], answer
    for form, simpler in _SIMPLER:
        if form.fullmatch(bare):
            written, bare = bare, form.sub(simpler, bare)
            lines.append(f"{written} -> {bare}")
    expected = reference
    fraction = re.fullmatch(r"(-?[0-9]+)/([0-9]{1,3})", bare)
    if fraction and _WHOLE.fullmatch(reference):
        expected = str(int(reference) * int(fraction[2]))
        lines.append(f"{bare}: {reference} * {fraction[2]} = {expected}")
        bare = fraction[1]
    end = "yes." if right else "no."
    if _WHOLE.fullmatch(bare) and _WHOLE.fullmatch(expected):
        lines.append(f"{bare} - {expected} = {int(bare) - int(expected)}, {end}")
    else:
        lines.append(f"{bare}: {'the same' if right else 'another form'}, {end}")
    return thought(lines, "")
