"""Sets, points and intervals: what stands in brackets, and what is united of them."""

from steps.rewards.math.forms import Collection, Form, Named, Piece, Region, Row, Unreadable, Value
from steps.rewards.math.regions import REALS, as_region, region, without_point
from steps.rewards.math.relations import RELATIONS, ReadForm, variable_of
from steps.rewards.math.split import Tokens, enclosed, joined, outermost, split, symbol
from steps.rewards.math.tokens import Token

_BRACKETS = {("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"), ("\\langle", "\\rangle")}


def items_of(tokens: Tokens, read_form: ReadForm) -> tuple[Form, ...]:
    """The items in a set's braces."""
    if not tokens:
        return ()
    parts, _ = split(tokens, lambda token: symbol(token) in (",", ";"))
    return tuple(item for part in parts for item in flatten(read_form(part)))


def flatten(form: Form) -> tuple[Form, ...]:
    """Two items for an item with ±."""
    return form.items if isinstance(form, Collection) and not form.braces else (form,)


def read_union(tokens: Tokens, read_form: ReadForm) -> Form | None:
    """`A \\cup B`, `\\mathbb{R} \\setminus \\{0\\}`; None where no sets are joined."""
    if joined(tokens[:6]).replace(" ", "").startswith("\\mathbb{R}-\\{"):
        tokens = (*tokens[:4], Token("command", "\\setminus"), *tokens[5:])
    parts, joints = split(
        tokens, lambda token: symbol(token) in ("\\cup", "\\setminus", "\\backslash") or _cup(token, tokens)
    )
    if not joints:
        return None
    if any(symbol(joint) in ("\\setminus", "\\backslash") for joint in joints):
        if len(parts) != 2:
            raise Unreadable("a difference of several sets")
        whole, points = as_region(read_form(parts[0])), read_form(parts[1])
        if whole is None or not isinstance(points, Collection):
            raise Unreadable("not a set")
        for point in points.items:
            if not isinstance(point, Value):
                raise Unreadable("not a set of numbers")
            whole = without_point(whole, point.expr)
        return whole
    pieces: list[Piece] = []
    for part in parts:
        piece = as_region(read_form(part))
        if piece is None:
            raise Unreadable("not a set of numbers")
        pieces += piece.pieces
    return region(pieces)


def _cup(token: Token, tokens: Tokens) -> bool:
    """A capital U between brackets, as people write ∪."""
    if token.kind != "run" or token.text not in ("U", "u"):
        return False
    place = next(place for place, one in enumerate(tokens) if one is token)
    return 0 < place < len(tokens) - 1 and tokens[place - 1].text in (")", "]") and tokens[place + 1].text in ("(", "[")


def read_brackets(tokens: Tokens, read_form: ReadForm) -> Form | None:
    """A set, a point, an interval, a list in brackets; None for an expression."""
    first, last = symbol(tokens[0]), symbol(tokens[-1])
    if not enclosed(tokens):
        return None
    inside = tokens[1:-1]
    if (first, last) == ("\\{", "\\}"):
        return _set_builder(inside, read_form) or Collection(items_of(inside, read_form), braces=True)
    if (first, last) not in _BRACKETS:
        return None
    parts, commas = split(inside, lambda token: symbol(token) in (",", ";"))
    if not commas and (first, last) == ("[", "]"):
        return Row("[]", (read_form(inside),))  # a list of one
    if not commas:
        return read_form(inside) if (first, last) == ("(", ")") and _is_form(inside) else None
    items = tuple(read_form(part) for part in parts)
    if (first, last) in (("(", "]"), ("[", ")")):
        if len(items) != 2 or not all(isinstance(item, Value) and not item.unit for item in items):
            raise Unreadable("not an interval")
        low, high = (item.expr for item in items if isinstance(item, Value))
        return region((Piece(low, high, first == "(", last == ")"),))
    brackets = {"(": "()", "[": "[]", "\\langle": "⟨⟩"}[first]
    signed = [place for place, item in enumerate(items) if isinstance(item, Collection) and not item.braces]
    if len(signed) > 1:
        raise Unreadable("several signs")
    if signed:
        both = items[signed[0]]
        assert isinstance(both, Collection)
        rows = (tuple(one if place == signed[0] else item for place, item in enumerate(items)) for one in both.items)
        return Collection(tuple(Row(brackets, row) for row in rows), braces=False)
    return Row(brackets, items)


def has_comma(tokens: Tokens) -> bool:
    """Whether brackets around all tokens hold several items."""
    return enclosed(tokens) and any(symbol(token) in (",", ";") for _, token in outermost(tokens[1:-1]))


def _is_form(tokens: Tokens) -> bool:
    """Whether brackets hold more than an expression: `(101_2)`, `([1, 2])`, a matrix."""
    return bool(tokens) and (enclosed(tokens) or any(symbol(one) in RELATIONS or one.kind == "begin" for one in tokens))


def _set_builder(inside: Tokens, read_form: ReadForm) -> Form | None:
    r"""`x \mid 1 < x < 2`, `x \in \mathbb{R} : x \ne 3`; None where the braces hold a list."""
    parts, bars = split(inside, lambda token: symbol(token) in ("\\mid", "|", ":", "\\colon"))
    if len(bars) != 1 or not all(parts):
        return None
    name, condition = parts
    domain, members = split(name, lambda token: symbol(token) == "\\in")
    if members and read_form(domain[1]) != REALS:
        raise Unreadable("not a set of reals")
    variable = variable_of(domain[0])
    form = read_form(condition)
    if variable is None or not isinstance(form, Named) or form.name != variable.name:
        raise Unreadable("not a set of numbers")
    region = form.form if isinstance(form.form, Region) else as_region(form.form)
    if isinstance(form.form, Collection):
        return Collection(form.form.items, braces=True)
    if isinstance(form.form, Value):
        return Collection((form.form,), braces=True)
    if region is None:
        raise Unreadable("not a set of numbers")
    return region
