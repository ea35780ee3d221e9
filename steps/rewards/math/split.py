"""Token sequences cut at their outermost level."""

from collections.abc import Callable, Iterator, Sequence

from steps.rewards.math.forms import Unreadable
from steps.rewards.math.tokens import Token

OPENING = frozenset(("(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil", "\\lvert"))
CLOSING = frozenset((")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil", "\\rvert"))
Tokens = tuple[Token, ...]


def symbol(token: Token) -> str:
    """The text of a token that is a sign or command; empty for words and numbers."""
    return token.text if token.kind in ("op", "command", "row") else ""


def outermost(tokens: Sequence[Token]) -> Iterator[tuple[int, Token]]:
    """Tokens that stand in no brackets, with their places. `(1, 2]` closes what it opens, whatever the kinds."""
    depth = 0
    for place, token in enumerate(tokens):
        sign = symbol(token)
        opens = sign in OPENING or token.kind == "begin"
        closes = sign in CLOSING or token.kind == "end"
        if closes:
            depth -= 1
            if depth < 0:
                raise Unreadable("brackets do not close")
        if depth == 0 and not opens and not closes:
            yield place, token
        depth += opens
    if depth:
        raise Unreadable("brackets do not close")


def split(tokens: Tokens, separates: Callable[[Token], bool]) -> tuple[list[Tokens], list[Token]]:
    """The parts between separators of the outermost level, and the separators."""
    parts, separators, start = [], [], 0
    for place, token in outermost(tokens):
        if separates(token):
            parts.append(tokens[start:place])
            separators.append(token)
            start = place + 1
    return [*parts, tokens[start:]], separators


def enclosed(tokens: Tokens) -> bool:
    """Whether the first token opens brackets that the last one closes."""
    if len(tokens) < 2 or symbol(tokens[0]) not in OPENING or symbol(tokens[-1]) not in CLOSING:
        return False
    depth = 0
    for place, token in enumerate(tokens):
        sign = symbol(token)
        depth += (sign in OPENING or token.kind == "begin") - (sign in CLOSING or token.kind == "end")
        if depth == 0:
            return place == len(tokens) - 1
    return False


def joined(tokens: Sequence[Token]) -> str:
    """Tokens as text again, with single spaces where there were some; the text in \\text{…} as it stands."""
    return " ".join("".join((" " if token.space else "") + token.text for token in tokens).split())
