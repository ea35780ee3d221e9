r"""Judges a final answer against the reference.

1. The same text as the reference, but for spaces and the like, is right.
2. A fragment of the question is not an answer: the expression to simplify is not the simplified one.
3. A reference that is a plain number wants a plain number, compared exactly. `7*8` does not answer 7·8, `0.333333` is
   not 1/3, `\{2\}` and `1=2` are not 2, 12 cm are not 12 m.
4. All else is compared form by form (`compare`), and then by the form that the problem asks for (`written`).
"""

import re

from steps.problem import Problem
from steps.rewards.math.compare import Comparison, Undecided
from steps.rewards.math.copied import is_copied, same_text
from steps.rewards.math.forms import Form, Unreadable, Value
from steps.rewards.math.parse import read, read_reference
from steps.rewards.math.pool import MathPool
from steps.rewards.math.tokens import grouped_by_commas
from steps.rewards.math.written import as_requested
from steps.rewards.score import Verdict, boxed_answer

VERSION = "math@3"
LONGEST_ANSWER = 256
"""Characters; a longer answer is wrong."""

_PERCENT_WANTED = re.compile(
    r"\b(?:what|which|how many|find the|as a|by|in)\b[^.?!]{0,20}\bpercent(?:age)?\b", re.IGNORECASE
)


class UnreadableReference(ValueError):
    """A problem's reference answer cannot be read as mathematics, so nothing can be verified against it."""


def judge(problem: Problem, response: str, pool: MathPool) -> Verdict:
    """Judge a response's final answer. Raises UnreadableReference naming the problem, and what the pool raises."""
    answer = boxed_answer(response)
    if answer is None:
        return Verdict(False, "no answer")
    return judge_answer(problem, answer, pool)


def judge_answer(problem: Problem, answer: str, pool: MathPool) -> Verdict:
    """Judge a final answer. Raises UnreadableReference naming the problem, and what the pool raises."""
    if len(answer) > LONGEST_ANSWER:
        return Verdict(False, "answer too long")
    if not answer.strip():
        return Verdict(False, "empty answer")
    if same_text(problem.answer, answer):
        return Verdict(True, "right")
    try:
        reference = read_reference(problem.answer)
    except Unreadable as error:
        raise UnreadableReference(
            f"problem {problem.id!r}: reference answer {problem.answer!r} cannot be read ({error}); "
            "write it as LaTeX or as plain words"
        ) from error
    try:
        form = _read_answer(reference, answer)
    except Unreadable as error:
        return Verdict(False, "hedged" if str(error) == "hedged" else "unreadable answer")
    if is_copied(problem.text, answer, form, reference):
        return Verdict(False, "copied from the question")
    try:
        right = Comparison(pool, bool(_PERCENT_WANTED.search(problem.text))).same(reference, form)
    except Undecided as undecided:
        return Verdict(False, undecided.outcome)
    if not right:
        return Verdict(False, "wrong")
    if problem.form is not None and not as_requested(problem.form, reference, form):
        return Verdict(False, f"not {problem.form}")
    return Verdict(True, "right")


def _read_answer(reference: Form, answer: str) -> Form:
    """`100,200` is a number, unless the reference is a list."""
    form = read(answer)
    if isinstance(form, Value) and not isinstance(reference, Value) and grouped_by_commas(answer):
        return read(re.sub(r"(?<=[0-9]),(?=[0-9])", ", ", answer))
    return form
