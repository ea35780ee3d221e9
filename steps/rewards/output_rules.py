"""By which rule a program's output is compared with the expected one; the problem names it (`compare`).

exact: the same lines, but for white space at the end of lines and of the whole, and for how lines end (CRLF is LF).
tokens: the same words between any white space.
floats TOLERANCE: words, of which two decimal numbers may differ by TOLERANCE, absolutely or relative to the expected
    one; other words are the same.
checker: a program of the problem decides (steps/rewards/output_checker.py).
"""

import re

_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 400
"""Characters; more digits than a double has any use for are words."""


def normal_output(text: str) -> str:
    """A program's output as `exact` compares it."""
    return "\n".join(line.rstrip() for line in text.rstrip().split("\n"))


def same_output(rule: str, output: str, expected: str) -> bool:
    """Whether an output is right by a rule other than `checker`. Raises ValueError for one that is not known."""
    if rule == "exact":
        return normal_output(output) == normal_output(expected)
    words, expected_words = output.split(), expected.split()
    if rule == "tokens":
        return words == expected_words
    kind, _, tolerance = rule.partition(" ")
    if kind != "floats":
        raise ValueError(f"compare is {rule!r}; expected exact, tokens, floats TOLERANCE or checker")
    pairs = zip(words, expected_words, strict=False)
    return len(words) == len(expected_words) and all(_close(*pair, float(tolerance)) for pair in pairs)


def _close(word: str, expected: str, tolerance: float) -> bool:
    """Whether two words are the same or numbers that differ by no more than the tolerance."""
    if word == expected:
        return True
    if not all(len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) for text in (word, expected)):
        return False
    number, reference = float(word), float(expected)
    # An infinite difference or limit (1e999) is not close.
    return abs(number - reference) <= tolerance * max(1.0, abs(reference)) < float("inf")
