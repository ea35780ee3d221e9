"""When generation ends early because a response repeats itself (§2.6.2).

vLLM's own detection is not used: it counts patterns of every length alike and knows no texts, and so ends a response
within `1000000`, `=====` or a table's rule. The engine looks at the end of each response itself, every INTERVAL tokens.
A response that has stopped repeating itself by then continues.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

INTERVAL = 16
"""Tokens of a response between two looks at it. A result does not depend on how requests share batches."""

_MARKS = frozenset("-=_*#~.|+:,;/\\&<>()[]{}'\"`^%@$–—−…·•")
"""What rules, tables, lists of numbers and brackets are made of. `!` is not one of them: it is what a model writes
whose numbers have become NaN."""


@dataclass(frozen=True)
class Repetition:
    """When a response repeats itself: a pattern of tokens, several times in a row, at its end."""

    max_pattern: int
    """Longest pattern looked for, in tokens."""
    min_count: int
    """How often the pattern must stand in a row, at least 2."""
    min_tokens: int
    """How many tokens these must be in all: a pattern of one token has to stand this often."""

    @property
    def longest(self) -> int:
        """The most tokens that decide, at a response's end."""
        return max(self.max_pattern * self.min_count, self.min_tokens)


def repeats(tokens: Sequence[int], rule: Repetition, text_of: Callable[[Sequence[int]], str]) -> bool:
    """Whether a response ends in a pattern that stands `min_count` times in a row over `min_tokens` tokens or more.

    Digits, white space and marks alone are not a pattern, however often they stand.

    Args:
        tokens: the response so far.
        text_of: decodes tokens; called for patterns alone.
    """
    end = len(tokens)
    for size in range(1, rule.max_pattern + 1):
        span = max(size * rule.min_count, rule.min_tokens)
        if span > end:
            return False
        same = all(tokens[place] == tokens[place - size] for place in range(end - 1, end - 1 - (span - size), -1))
        # Twice the pattern holds it whole where it begins within a character.
        if same and not _is_filling(text_of(tokens[end - 2 * size :])):
            return True
    return False


def _is_filling(text: str) -> bool:
    """Whether a text says nothing: digits, white space, and marks."""
    text = text.strip("\ufffd")
    return text != "" and all(
        character.isspace() or character.isnumeric() or character in _MARKS or "\u2500" <= character <= "\u259f"
        for character in text
    )
