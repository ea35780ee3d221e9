r"""Numbers with what belongs to them: a unit, a currency, a base, a remainder, several units, a ratio."""

import re
from collections.abc import Iterator
from fractions import Fraction

from steps.rewards.math.evaluate import exact, plain_number
from steps.rewards.math.expression import read_expression
from steps.rewards.math.forms import (
    Based,
    Compound,
    Expr,
    Form,
    Number,
    Operation,
    Ratio,
    Remainder,
    Unreadable,
    Value,
    negative,
)
from steps.rewards.math.split import Tokens, joined, outermost, split, symbol
from steps.rewards.math.tokens import Token, digits
from steps.rewards.math.units import BARE_LETTERS, SCALES, may_stand_bare, read_unit

_CURRENCIES = {"$": "dollar", "\\$": "dollar", "\\euro": "€", "\\sterling": "£", "\\yen": "¥", "\\rupee": "₹"}
_UNIT_SIGNS = {"\\%": "%", "\\euro": "€", "\\sterling": "£", "\\yen": "¥", "\\rupee": "₹", "\\cent": "¢", "\\$": "USD"}
_UNIT_SIGNS |= {"$": "USD", "\\cdot": "·", "\\circ": "°"}
_REMAINDERS = frozenset(("r", "rem", "remainder", "with remainder", "with a remainder of", "remainder of"))
_BASE_WORDS = dict(
    zip(
        re.findall(
            r"\S+",
            """
    two three four five six seven eight nine ten
    """,
        ),
        range(2, 11),
        strict=True,
    )
)
_BASED = re.compile(
    r"(?P<sign>-?)(?P<open>\()?(?P<digits>[0-9A-Z]+)(?(open)\))"
    r"(?:_\{?\(?(?P<base>[0-9]+|[a-z]+)\)?\}?|\(?base(?P<base2>[0-9]+|[a-z]+)\)?)"
)
_BARE_WORDS = frozenset(("square", "cubic", "sq", "cu", "per", "percent", "pct"))
_FAMILIES = (
    ("century", "decade", "yr", "month", "week", "day", "h", "min", "s", "ms"),
    ("mi", "yd", "ft", "in"),
    ("km", "m", "cm", "mm"),
    ("ton", "lb", "oz"),
    ("t", "kg", "g", "mg"),
    ("gal", "qt", "pt", "cup"),
    ("l", "ml"),
    ("dollar", "¢"),
)
"""Units that a quantity is written in one after the other, in this order: 2 hours 30 min."""


def read_based(tokens: Tokens) -> Form | None:
    r"""`101_2`, `(101)_2`, `2B_{12}`, `101 \text{ base } 2`; None where no base is written. Base ten is plain."""
    text = joined(tokens).replace(" ", "").replace("\ue000", "").replace(",", "")
    match = _BASED.fullmatch(text)
    # A_{16} is the sixteenth A; 2B_{12} and AB_{12} are numbers.
    if not match or not (match["digits"][0].isdigit() or (len(match["digits"]) > 1 and match["base"] in ("12", "16"))):
        return None
    written = match["base"] or match["base2"]
    base = _BASE_WORDS.get(written, 0) if written.isalpha() else int(written)
    try:
        value = int(match["digits"], base) if 2 <= base <= 36 else None
    except ValueError:
        value = None
    if value is None:
        raise Unreadable("not a number of that base")
    if base == 10:
        return Value(Number(Fraction(-value if match["sign"] else value)))
    return Based(match["sign"] + (match["digits"].lstrip("0") or "0"), base)


def read_remainder(tokens: Tokens) -> Remainder | None:
    """`12 R 3`, `12R3`, `12 remainder 3`; None where it is not that."""
    for place, token in outermost(tokens):
        if token.kind in ("run", "text") and token.text.strip(" ,.").casefold() in _REMAINDERS and place:
            left = tokens[:place]
            if symbol(left[-1]) == ",":
                left = left[:-1]
            right = tokens[place + 1 :]
            if len(left) == len(right) == 1 and left[0].kind == right[0].kind == "number":
                return Remainder(Number(Fraction(digits(left[0].text))), Number(Fraction(digits(right[0].text))))
    return None


def read_ratio(tokens: Tokens) -> Ratio | None:
    """`5:9`, `1:2:3`, `5 \\text{ to } 9`; None where nothing stands to another."""

    def separates(token: Token) -> bool:
        return symbol(token) in (":", "\\colon") or (token.kind in ("run", "text") and token.text.strip() == "to")

    parts, separators = split(tokens, separates)
    if not separators:
        return None
    return Ratio(tuple(read_expression(part) for part in parts), ":".join(digits(joined(part)) for part in parts))


def _unit_text(tokens: Tokens) -> str | None:
    """What follows a number as the text of a unit; None where something in it cannot be a part of one."""
    parts = []
    for token in tokens:
        sign = symbol(token)
        if token.kind in ("text", "run"):
            parts.append(" " + token.text + " ")
        elif token.kind == "number" and parts and re.fullmatch("[1-9]", token.text):
            parts.append(token.text)
        elif sign in _UNIT_SIGNS:
            parts.append(_UNIT_SIGNS[sign])
        elif sign in ("/", "^", "%", "{", "}", ".", "-"):
            parts.append(sign)
        else:
            return None
    return "".join(parts).replace("^{°}", "^°").replace("^°", "°")


def _fraction_of_units(tokens: Tokens) -> str | None:
    """`\\frac{\\text{km}}{\\text{h}}` as km/h."""
    if len(tokens) < 7 or tokens[0].text not in ("\\frac", "\\dfrac", "\\tfrac"):
        return None
    text = re.sub(r"\^ ?\{([23])\}", r"^\1", joined(tokens[1:]))
    match = re.fullmatch(r"\{([^{}]+)\} ?\{([^{}]+)\}", text)
    return f"{match[1]}/{match[2]}" if match and not re.search("[0-9]", re.sub(r"\^[23]", "", text)) else None


def _may_start_unit(tokens: Tokens, place: int) -> bool:
    token = tokens[place]
    sign = symbol(token)
    if token.kind == "run":
        bare = may_stand_bare(token.text) and (token.space or len(token.text) > 1)
        return bare or token.text in _BARE_WORDS or token.text.casefold() in SCALES
    if sign == "^":
        return any(following.text == "\\circ" for following in tokens[place + 1 : place + 3])
    return token.kind == "text" or sign in ("%", *_UNIT_SIGNS, "\\frac", "\\dfrac", "\\tfrac")


def _unit_starts(tokens: Tokens) -> Iterator[int]:
    """Places at which the unit may begin, the longest unit first."""
    for place, _ in outermost(tokens):
        if place and _may_start_unit(tokens, place):
            yield place


def read_value(tokens: Tokens) -> Value:
    """An expression with its unit or currency. Raises Unreadable."""
    currency, minus = "", False
    if len(tokens) > 1 and symbol(tokens[0]) == "-" and symbol(tokens[1]) in _CURRENCIES:
        minus, tokens = True, tokens[1:]
    if tokens and symbol(tokens[0]) in _CURRENCIES:
        currency, tokens = _CURRENCIES[symbol(tokens[0])], tokens[1:]
    value = _with_unit(tokens)
    if currency:
        if value.unit not in ("", currency):
            raise Unreadable("two units")
        value = Value(value.expr, currency)
    return Value(negative(value.expr), value.unit) if minus else value


def _without_brackets(tokens: Tokens) -> Tokens:
    """`9 (apples)` as `9 apples`."""
    opening = next((place for place, token in enumerate(tokens) if symbol(token) == "("), 0)
    inside = tokens[opening + 1 : -1]
    words = bool(inside) and all(token.kind in ("run", "text") for token in inside)
    if opening and words and symbol(tokens[-1]) == ")" and read_unit(joined(inside)) is not None:
        return (*tokens[:opening], *(Token("text", f" {token.text} ", True) for token in inside))
    return tokens


def _with_unit(tokens: Tokens) -> Value:
    tokens = _without_brackets(tokens)
    for start in _unit_starts(tokens):
        unit_tokens = tokens[start:]
        text = _fraction_of_units(unit_tokens) or _unit_text(unit_tokens)
        if text is None:
            continue
        first, _, rest = text.strip().partition(" ")
        scale = SCALES.get(first.casefold(), 1)
        unit = read_unit(rest if scale > 1 else text) if scale == 1 or rest.strip() else ""
        if unit is None or (scale == 1 and not unit):
            continue
        try:
            expr = read_expression(tokens[:start])
        except Unreadable:
            continue
        if scale > 1:
            number = plain_number(expr)
            if number is None:
                raise Unreadable("a large number")
            expr = Number(number * scale)
        bare = len(unit_tokens) == 1 and unit_tokens[0].kind == "run" and unit_tokens[0].text in BARE_LETTERS
        return Value(expr, unit, bare)
    expr = read_expression(tokens)
    if isinstance(expr, Operation) and expr.head == "°":
        return Value(expr.args[0], "°")
    return Value(expr)


def read_compound(tokens: Tokens) -> Compound | None:
    """`2 hours 30 min`, `6 ft 2 in`, `2 \\text{ h and } 30 \\text{ min}`; None where it is not that."""
    starts = [
        place
        for place, token in outermost(tokens)
        if token.kind == "number"
        and (place == 0 or tokens[place - 1].kind in ("run", "text") or _joins(tokens[place - 1]))
    ]
    if len(starts) < 2 or starts[0] != 0:
        return None
    parts = []
    for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        segment = tokens[start:end]
        while len(segment) > 1 and _joins(segment[-1]):
            segment = segment[:-1]
        segment = tuple(
            Token(one.kind, re.sub(r"[ ,]*(?:\band\b)? *$", "", one.text), one.space) if one.kind == "text" else one
            for one in segment
        )
        try:
            part = read_value(segment)
        except Unreadable:
            return None
        if plain_number(part.expr) is None or not part.unit:
            return None
        parts.append(part)
    units = [part.unit for part in parts]
    for family in _FAMILIES:
        if all(unit in family for unit in units):
            places = [family.index(unit) for unit in units]
            return Compound(tuple(parts)) if places == sorted(set(places)) else None
    return None


def _joins(token: Token) -> bool:
    return symbol(token) == "," or (token.kind in ("run", "text") and token.text.strip() == "and")


def is_time_of_day(ratio: Ratio) -> bool:
    """Whether a ratio could be a time of day, which must not be reduced: 12:30 is not 2:5."""
    return re.fullmatch(r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?", ratio.text) is not None


def reduced(terms: tuple[Expr, ...]) -> tuple[Fraction, ...] | None:
    """Terms divided by the first; None where they are not rational, or it is 0."""
    values = [exact(term) for term in terms]
    if any(value is None for value in values) or not values[0]:
        return None
    return tuple(value / values[0] for value in values if value is not None)
