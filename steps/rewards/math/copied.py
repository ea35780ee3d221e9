"""Answers that are a piece of the question. Its own expression is equal to the simplified one, and yet no answer."""

import functools

from steps.rewards.math.evaluate import plain_number
from steps.rewards.math.forms import Expr, Form, Named, Number, Symbol, Unreadable, Value, Word
from steps.rewards.math.tokens import plain, tokenise

_SAME = {
    "\\dfrac": "\\frac",
    "\\tfrac": "\\frac",
    "\\cfrac": "\\frac",
    "\\leq": "\\le",
    "\\geq": "\\ge",
    "\\neq": "\\ne",
    "\\lt": "<",
    "\\gt": ">",
    "\\varnothing": "\\emptyset",
    "\\surd": "\\sqrt",
    "*": "\\cdot",
    "\\times": "\\cdot",
}
_MATHEMATICAL = frozenset("\\^_=<>{")

Words = tuple[str, ...]


@functools.lru_cache(4096)
def _words(text: str) -> Words | None:
    """Tokens as far as they say something: no spaces, no braces around one token. None for what has no tokens."""
    try:
        tokens = tokenise(plain(text))
    except Unreadable:
        return None
    words = [_SAME.get(token.text, " ".join(token.text.split())) for token in tokens]
    done: list[str] = []
    for word in words:
        done.append(word)
        # Not around all of it: `{2}` is a set.
        if len(done) > 3 and word == "}" and done[-3] == "{" and len(done[-2]) == 1:
            done[-3:] = [done[-2]]
    return tuple(done)


def same_text(reference: str, answer: str) -> bool:
    """Whether an answer is the reference, but for spaces, math mode and commands that print alike."""
    if reference.strip() == answer.strip():
        return True
    words = _words(answer)
    return bool(words) and words == _words(reference)


@functools.lru_cache(1024)
def _fragments(question: str) -> tuple[Words, ...]:
    """The question's tokens, in pieces where a character of its prose is none."""
    pieces: list[Words] = []
    for line in question.replace("$", "\n").replace("\\(", "\n").replace("\\)", "\n").replace("\\[", "\n").splitlines():
        words = _words(line)
        if words:
            pieces.append(words)
            continue
        # Prose between formulas: what has no tokens is left out, word by word.
        for part in line.split():
            words = _words(part.strip('.,;:?!"“”'))
            if words:
                pieces.append(words)
    whole = _words(question)
    return (*pieces, whole) if whole else tuple(pieces)


def is_copied(question: str, answer: str, form: Form, reference: Form) -> bool:
    """Whether an answer is a fragment of the question and not the reference in another order.

    Plain numbers and words are never copied: they have no form in which they would still have to be worked out.
    """
    inner = form.form if isinstance(form, Named) else form
    if isinstance(inner, Word) or (isinstance(inner, Value) and _is_simple(inner.expr)):
        return False
    if _ordered(form) == _ordered(reference) or _ordered(inner) == _ordered(reference):
        return False
    words = _words(answer)
    if not words or len(words) < 2:
        return False
    return any(_contains(piece, words) for piece in _fragments(question))


def _is_simple(expr: Expr) -> bool:
    return plain_number(expr) is not None or isinstance(expr, (Number, Symbol))


def _contains(piece: Words, words: Words) -> bool:
    return any(piece[start : start + len(words)] == words for start in range(len(piece) - len(words) + 1))


def _ordered(form: Form) -> object:
    """A form in which sums and products have one order: `1+x` is literally `x+1`."""
    if isinstance(form, Value):
        return "value", _in_order(form.expr)
    if isinstance(form, Named):
        return _ordered(form.form)
    return form


def _in_order(expr: Expr) -> object:
    if isinstance(expr, Number):
        return "number", str(expr.value)
    if isinstance(expr, Symbol):
        return "symbol", expr.name
    args = [_in_order(arg) for arg in expr.args]
    if expr.head in ("+", "*"):
        args.sort(key=repr)
    return expr.head, tuple(args)
