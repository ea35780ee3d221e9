"""Reference answers that no response can meet: missing values, sentences, hedges, what cannot be read."""

import re

from steps.rewards.math.compare import Comparison, Undecided
from steps.rewards.math.forms import Unreadable, Word
from steps.rewards.math.judge import LONGEST_ANSWER
from steps.rewards.math.parse import read_reference
from steps.rewards.math.pool import MathPool

MAX_WORDS = 8
"""More are a sentence, which nobody writes the same way twice."""

_MISSING = frozenset(
    (
        "nan",
        "NaN",
        "NAN",
        "None",
        "N/A",
        "n/a",
        "NA",
        "#N/A",
        "<NA>",
        "null",
        "Null",
        "NULL",
        "nil",
        "NaT",
        "?",
        "-",
        "--",
    )
)
_SENTENCE = re.compile(
    r"\b(?:the |final |correct )*answer(?: is\b|:)|^(?:so|thus|therefore|hence|it is|we get)\b|####", re.I
)
_HEDGE = re.compile(
    r"\b(?:about|approx(?:imately|\.)?|around|roughly|nearly|almost|circa|maybe|probably|or so|or more|or less|at least"
    r"|at most|estimated?)\b|≈|≅|\\approx|\\cong|\\sim(?![a-z])|^~|\.\.\.|…|\\[lc]?dots",
    re.I,
)
_CHOICE = re.compile(r"^\(?[A-H][).:]\s*\S|^\([A-H]\)\s*\S")


def reference_fault(answer: str, pool: MathPool) -> str | None:
    """Why no response can be right for a reference answer, in a few words; None where one can.

    Plain numbers and words need no process; a formula is compared with itself.
    """
    text = answer.strip().strip("$").strip()
    if not text.strip(". "):
        return "empty"
    if text in _MISSING:
        return "a missing value"
    if len(answer) > LONGEST_ANSWER:
        return f"longer than the {LONGEST_ANSWER} characters that an answer may have"
    if _SENTENCE.search(text):
        return "a sentence around the answer"
    if _CHOICE.search(text) and not re.fullmatch(r"\(?[A-H][).:]?", text):
        return "a choice and its text: give the letter or the value"
    if _HEDGE.search(text):
        return "hedged: no answer is about right"
    try:
        form = read_reference(answer)
    except Unreadable as error:
        return f"cannot be read: {error}"
    if isinstance(form, Word):
        return None if len(form.text.split()) <= MAX_WORDS else "a sentence: no two are the same"
    try:
        # An expression is equal to itself as it stands; what has no value is found when it is compared with more.
        return None if Comparison(pool).same(form, form) else "not equal to itself"
    except Undecided as undecided:
        return undecided.outcome
