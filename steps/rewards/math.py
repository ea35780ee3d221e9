r"""The verifier of mathematical answers (§2.3.5: "one answer has many forms"), by rule; the report judges by model.

A wrong answer taken for a right one is what a policy learns to give, so every doubt is decided against the answer:

1. The same text as the reference is right.
2. A reference that is a word is compared as text: for an algebra system, "Monday" is a product of six variables.
3. A reference that is a plain number wants a plain number, compared exactly (`steps.rewards.quantity`). `7*8` is no
   answer to 7·8, `0.333333` is not 1/3, `\{2\}` and `1=2` are not 2, 12 cm are not 12 m.
4. All else is compared by math-verify, once both have the same shape: brackets, number of parts, relations, words,
   variables. math-verify alone takes (1, 2) for the list 1, 2 and drops words and units.
"""

import re
from dataclasses import dataclass

from steps.problem import Problem
from steps.rewards.math_pool import MathPool
from steps.rewards.quantity import read_quantity, without_wrapping
from steps.rewards.score import Verdict, boxed_answer

VERSION = "math@2"
LONGEST_ANSWER = 256
"""Characters; a longer answer is wrong."""

_TEXT = re.compile(r"\\(?:text|mathrm|textrm|textbf|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_ASSIGNMENT = re.compile(r"([A-Za-z](?:_\{?[0-9A-Za-z]+\}?)?(?:\([A-Za-z]\))?) ?= ?([^=<>]+)")
_RELATION = re.compile(r"[=<>≤≥≠∈]|\\(?:leq?|geq?|neq?|lt|gt|in|approx|equiv|sim)(?![A-Za-z])")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_BRACKETS = {"\\{": "\\}", "{": "}", "(": ")]", "[": ")]"}


class UnreadableReference(ValueError):
    """A problem's reference answer cannot be read as mathematics, so nothing can be verified against it."""


@dataclass(frozen=True)
class Shape:
    """What two formulas must share before their values are compared."""

    brackets: str  # the kind that encloses all of it: "" for none
    parts: int  # separated by commas at the outermost level
    relations: int
    words: frozenset[str]
    letters: frozenset[str]


def _enclosing(formula: str) -> tuple[str, str]:
    r"""The brackets around a whole formula and what is in them. `(1)+(2)` and `(1,2]\cup(3,4)` have none."""
    for left, rights in _BRACKETS.items():
        if not formula.startswith(left):
            continue
        depth, position = 0, 0
        while position < len(formula):
            size = 2 if formula[position] == "\\" else 1
            token = formula[position : position + size]
            depth += (token in _BRACKETS) - (token in ("\\}", "}", ")", "]"))
            position += size
            if depth == 0:
                break
        if position == len(formula) and token in (rights, *rights) and depth == 0:
            return left + token, formula[len(left) : -len(token)]
    return "", formula


def _top_level_commas(formula: str) -> int:
    depth = commas = 0
    for character in formula:
        depth += (character in "([{") - (character in ")]}")
        commas += depth == 0 and character == ","
    return commas


def shape(formula: str) -> Shape:
    """The shape of a formula without wrapping."""
    brackets, inside = _enclosing(formula)
    commas = _top_level_commas(inside)
    if brackets in ("()", "[]") and not commas:
        brackets = ""  # only grouping: (x+1)
    quoted = " ".join(_TEXT.findall(formula))
    bare = _COMMAND.sub(" ", _TEXT.sub(" ", formula))
    words = re.findall(r"[A-Za-z]+", quoted) + re.findall(r"[A-Za-z]{3,}", bare)
    return Shape(
        brackets=brackets,
        parts=commas + 1,
        relations=len(_RELATION.findall(formula)),
        words=frozenset(word.casefold() for word in words) - {"or", "and"},
        letters=frozenset(re.findall(r"[A-Za-z]", bare)),
    )


def _shapes_agree(reference: Shape, answer: Shape) -> bool:
    if not (answer.words <= reference.words and answer.letters <= reference.letters):
        return False
    if reference.relations and not answer.relations and answer.brackets[:1] in ("(", "["):
        return answer.parts == 2  # x < 3 as an interval
    # Several values may stand in a set or in a row; one value in a set is a set.
    alike = {"", "\\{\\}"} if reference.parts > 1 else {reference.brackets}
    brackets = answer.brackets == reference.brackets or {answer.brackets, reference.brackets} <= alike
    return brackets and answer.parts == reference.parts and answer.relations == reference.relations


def as_word(formula: str) -> str | None:
    r"""A word or words as text: `Monday`, `\text{yes}`, `(B)`; None for a formula."""
    text = _TEXT.sub(r"\1", formula).strip()
    if re.fullmatch(r"\([A-Z]\)|[A-Z]", text):
        return text.strip("()")
    if re.fullmatch(r"[A-Za-z]+(?:[ \-][A-Za-z]+)*", text) and (text != formula or len(text) > 2):
        return text.casefold()
    return None


def _without_same_assignment(reference: str, answer: str) -> tuple[str, str]:
    """Both without `x =`, where one of them or both, with the same name, have it."""
    left, right = _ASSIGNMENT.fullmatch(reference), _ASSIGNMENT.fullmatch(answer)
    if left and right and left[1] != right[1]:
        return reference, answer
    return (left[2].strip() if left else reference), (right[2].strip() if right else answer)


def judge_answer(reference: str, answer: str, pool: MathPool) -> Verdict:
    """Whether a final answer equals the reference answer. Raises UnreadableReference, and what the pool raises."""
    if len(answer) > LONGEST_ANSWER:
        return Verdict(False, "answer too long")
    reference, answer = without_wrapping(reference), without_wrapping(answer)
    if not answer:
        return Verdict(False, "empty answer")
    if answer == reference:
        return Verdict(True, "right")
    reference, answer = _without_same_assignment(reference, answer)
    word = as_word(reference)
    if word is not None:
        return _verdict(word == as_word(answer))
    quantity = read_quantity(reference)
    if quantity is not None:
        given = read_quantity(answer)
        if given is None:
            return Verdict(False, "not a plain number, as the reference is")
        return _verdict(quantity.equals(given))
    if "$" in answer.replace("\\$", "") or any(c.isdigit() and not c.isascii() for c in answer):
        return Verdict(False, "unreadable answer")
    if not _shapes_agree(shape(reference), shape(answer)):
        return Verdict(False, "another form than the reference")
    outcome = pool.compare(reference, answer)
    if outcome == "unreadable reference":
        raise UnreadableReference(f"reference answer {reference!r} cannot be read; write it as LaTeX or as plain words")
    return _verdict(outcome == "equal") if outcome in ("equal", "different") else Verdict(False, outcome)


def _verdict(right: bool) -> Verdict:
    return Verdict(right, "right" if right else "wrong")


def judge(problem: Problem, response: str, pool: MathPool) -> Verdict:
    """Judge a response's final answer. Raises UnreadableReference naming the problem."""
    answer = boxed_answer(response)
    if answer is None:
        return Verdict(False, "no answer")
    try:
        return judge_answer(problem.answer, answer, pool)
    except UnreadableReference as error:
        raise UnreadableReference(f"problem {problem.id!r}: {error}") from error
