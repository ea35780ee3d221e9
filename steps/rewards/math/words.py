"""Answers in words, compared as text: to an algebra system, "Monday" is a product of six variables."""

import re
import unicodedata

from steps.rewards.math.split import Tokens, joined
from steps.rewards.math.vocabulary import FUNCTIONS, product_of_letters

_SHORT_WORDS = frozenset(["no", "on", "up", "if", "so", "it", "is", "we", "us", "go"])
_KNOWN = frozenset(
    re.findall(
        r"\S+",
        """
    yes no true false odd even red max min all any two ten six one
    """,
    )
)
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*(?:(?:[ \-/&,]|\. ?|, )[^\W_]+(?:['’][^\W_]+)*)*['.]?")

EMPTY_SET = frozenset(
    (
        *("no solution", "no solutions", "no real solution", "no real solutions", "there is no solution"),
        *("there are no solutions", "there are no real solutions", "there is no real solution", "empty set"),
        *("the empty set", "null set"),
    )
)
ALL_REALS = frozenset(("all real numbers", "all reals", "all real", "the real numbers", "any real number"))


def normal(text: str) -> str:
    """Words as they are compared: without regard to case, to spaces and to how an accent is encoded."""
    text = unicodedata.normalize("NFC", text).replace("’", "'").replace(".", " ")
    return " ".join(text.casefold().split())


def read_word(tokens: Tokens) -> str | None:
    """The words that tokens are; None where they can be a formula. Names of two or three capitals are no words."""
    if not all(token.kind in ("text", "run") or token.text in ("'", "-", ".", "!", "&") for token in tokens):
        return None
    quoted = all(token.kind == "text" or not token.text.isalpha() for token in tokens)
    text = joined(tokens).strip()
    if not _WORDS.fullmatch(text) or not any(character.isalpha() for character in text):
        return None
    runs = re.findall(r"[^\W\d_]+", text)
    if len(runs) == 1 and runs[0] == text:
        run = runs[0]
        if len(run) == 1:
            return None
        if run.isupper() and len(run) <= 3 and run.casefold() not in _KNOWN:
            return None
        if run in ("pi", "sqrt"):
            return None
        if quoted:
            return normal(text)
        if len(run) == 2:
            return normal(text) if run.casefold() in _SHORT_WORDS or not run.isascii() or run[0].isupper() else None
        return None if run in _ALPHABET or set(run) <= set("xyz") or run in FUNCTIONS else normal(text)
    if quoted:
        return normal(text)
    long = [run for run in runs if len(run) > 2 and run not in FUNCTIONS and run not in _ALPHABET]
    names = all(run.isupper() and len(run) <= 3 for run in long)
    if not long or (names and "-" in text):
        return None
    if "-" in text and all(product_of_letters(run) for run in runs):
        return None  # abc-xyz
    return None if any(character.isdigit() for character in text) else normal(text)
