"""Relations: equations, inequalities with the region that they describe, residue classes."""

import re
from collections.abc import Callable

from steps.rewards.math.expression import read_expression
from steps.rewards.math.forms import (
    INFINITY,
    Assignment,
    Chain,
    Collection,
    Congruence,
    Form,
    Named,
    Operation,
    Region,
    Relation,
    Row,
    Symbol,
    Unreadable,
    Value,
    symbols,
)
from steps.rewards.math.regions import between, from_inequality, region
from steps.rewards.math.split import Tokens, enclosed, joined, outermost, split, symbol
from steps.rewards.math.words import read_word

_OF_AN_ANGLE = frozenset(("sin", "cos", "tan", "cot", "sec", "csc"))

ReadForm = Callable[[Tokens], Form]
"""Reads what stands inside or beside: `parse`, which reads everything, is handed in."""

RELATIONS = (
    {
        "=": "=",
        "==": "=",
        "<": "<",
        ">": ">",
        "\\lt": "<",
        "\\gt": ">",
        "<=": "≤",
        ">=": "≥",
        "!=": "≠",
        "\\ne": "≠",
        "\\neq": "≠",
        "\\in": "∈",
        "\\equiv": "≡",
    }
    | dict.fromkeys(("\\le", "\\leq", "\\leqslant"), "≤")
    | dict.fromkeys(("\\ge", "\\geq", "\\geqslant"), "≥")
)
_MIRROR = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "=": "=", "≠": "≠"}


def name_of(tokens: Tokens) -> str | None:
    r"""The left side of `name = value` as text: `x`, `f(x)`, `AB`, `|AB|`, `\text{Area}`, `S_1:S_2`; None for a formula
    that would make it an equation."""
    text = joined(tokens).replace(" ", "")
    if read_word(tokens) is not None:
        return text.casefold()
    if re.fullmatch(
        r"[A-Za-z](?:\^\{?-1\}?|'*)\([A-Za-z0-9\\][A-Za-z_0-9,]*\)|\\frac\{d[a-z]\}\{d[a-z]\}|[a-z]'+", text
    ):
        return text
    if re.fullmatch(
        r"\[[A-Z]{3,}\]|m\\angle[A-Z]+|P\([^()]*\)|[A-Z](?:\^\{?-1\}?|\^\{?T\}?)|\([a-z]\\circ[a-z]\)\([a-z]\)", text
    ):
        return text
    sides, colons = split(tokens, lambda token: symbol(token) == ":")
    if colons:
        names = [name_of(side) for side in sides]
        return None if None in names else text
    try:
        expr = read_expression(tokens)
    except Unreadable:
        return None
    if isinstance(expr, Operation) and expr.head in ("abs", "/"):
        # |AB| and NO/BO: names of what is measured. Fractions of variables make an equation.
        inner = [arg.name for arg in expr.args if isinstance(arg, Symbol)]
        capitals = [name for name in inner if re.fullmatch("[A-Z]{2,}", name)]
        return text if len(inner) == len(expr.args) and (expr.head == "abs" or len(capitals) == 2) else None
    if isinstance(expr, Operation) and expr.head in _OF_AN_ANGLE and isinstance(expr.args[0], Symbol):
        # The sine of an angle is a name; sin x = 1/2 is an equation for x.
        return text if re.fullmatch("[A-Z]|[a-z]{2,}|angle .*", expr.args[0].name) else None
    if isinstance(expr, Symbol) and expr.name not in ("π", "e", "i", "∞"):
        return expr.name
    return None


def variable_of(tokens: Tokens) -> Symbol | None:
    """The variable that tokens are; None for anything else."""
    try:
        expr = read_expression(tokens)
    except Unreadable:
        return None
    return expr if isinstance(expr, Symbol) else None


def read_relation(sides: list[Tokens], ops: list[str], read_form: ReadForm) -> Form:
    """What stands on both sides of each sign of RELATIONS. Raises Unreadable."""
    if any(not side for side in sides):
        raise Unreadable("half a relation")
    if "≡" in ops:
        return _congruence(sides, ops, read_form)
    if "∈" in ops:
        name = name_of(sides[0])
        form = read_form(sides[1]) if len(sides) == 2 else None
        if name is None or not isinstance(form, (Region, Row, Collection, Value)):
            raise Unreadable("not a set")
        if isinstance(form, Value) and not (isinstance(form.expr, Symbol) and form.expr.name.startswith("mathbb")):
            raise Unreadable("not a set")
        return Named(name, form, variable_of(sides[0]))
    if ops == ["="]:
        return _equation(sides[0], sides[1], read_form)
    if len(ops) <= 2 and "=" not in ops:
        bounded = _bounded(sides, ops)
        if bounded is not None:
            return bounded
    links = tuple(_link(op, left, right) for op, left, right in zip(ops, sides[:-1], sides[1:], strict=True))
    return links[0] if len(links) == 1 else Chain(links)


def _link(op: str, left: Tokens, right: Tokens) -> Relation:
    one, other = read_expression(left), read_expression(right)
    return Relation(_MIRROR[op], other, one) if op in (">", "≥") else Relation(op, one, other)


def _equation(left: Tokens, right: Tokens, read_form: ReadForm) -> Form:
    if enclosed(left) and (symbol(left[0]), symbol(left[-1])) == ("(", ")"):
        names, _ = split(left[1:-1], lambda token: symbol(token) in (",", ";"))
        named = [name_of(name) for name in names]
        if len(names) > 1 and all(named):
            return _tuple_equation([name or "" for name in named], read_form(right))
    for side, other in ((left, right), (right, left)):
        name = name_of(side)
        if name is None:
            continue
        try:
            form, variable = read_form(other), variable_of(side)
        except Unreadable:
            if other is left:
                raise
            continue
        if variable and isinstance(form, Value) and variable.name in symbols(form.expr):
            break  # x = 2x + 1 says nothing of x as it stands
        return Named(name, form, variable)
    return _link("=", left, right)


def _tuple_equation(names: list[str], form: Form) -> Form:
    """`(x, y) = (3, 4)`; several points stay a list."""
    if isinstance(form, Collection) and not form.braces:
        return Collection(tuple(_tuple_equation(names, item) for item in form.items), braces=False)
    if not isinstance(form, Row) or len(form.items) != len(names):
        raise Unreadable("not as many values as names")
    return Assignment(tuple(Named(name, item) for name, item in zip(names, form.items, strict=True)), ordered=True)


def _bounded(sides: list[Tokens], ops: list[str]) -> Form | None:
    """`x < 3`, `3 > x`, `1 < x \\le 2` as a region; None where no name alone is bounded by numbers."""
    names = [name_of(side) for side in sides]
    at = next((place for place, name in enumerate(names) if name is not None), None)
    if at is None or sum(name is not None for name in names) > 1 or (len(sides) == 3 and at != 1):
        return None
    bounds = [read_expression(side) for place, side in enumerate(sides) if place != at]
    if any(symbols(bound) - {INFINITY} for bound in bounds):
        return None  # y > 2x + 1
    name = names[at] or ""
    try:
        if len(sides) == 2:
            made = from_inequality(ops[0] if at == 0 else _MIRROR[ops[0]], bounds[0])
            return Named(name, region(made.pieces), variable_of(sides[at]))
        if all(op in ("<", "≤") for op in ops):
            return Named(name, between(bounds[0], ops[0], ops[1], bounds[1]), variable_of(sides[at]))
        if all(op in (">", "≥") for op in ops):
            return Named(name, between(bounds[1], _MIRROR[ops[1]], _MIRROR[ops[0]], bounds[0]), variable_of(sides[at]))
    except Unreadable:
        return None
    return None


def _congruence(sides: list[Tokens], ops: list[str], read_form: ReadForm) -> Form:
    if ops != ["≡"]:
        raise Unreadable("a chain of congruences")
    form = read_form(sides[1])
    if not isinstance(form, Congruence):
        raise Unreadable("no modulus")
    name = name_of(sides[0])
    if name is None:
        raise Unreadable("not a name")
    return Named(name, form, variable_of(sides[0]))


def read_congruence(tokens: Tokens) -> Form | None:
    """`3 \\pmod 5`, `3 (mod 5)`; None where no modulus is written."""
    for place, token in outermost(tokens):
        if symbol(token) in ("\\pmod", "\\bmod", "\\mod") or (
            token.kind in ("run", "text") and token.text.strip() == "mod"
        ):
            return Congruence(read_expression(tokens[:place]), read_expression(tokens[place + 1 :]))
    inside = tokens[-1:] and symbol(tokens[-1]) == ")"
    opening = next((place for place, token in enumerate(tokens) if symbol(token) == "("), None)
    if inside and opening and tokens[opening + 1].text.strip() in ("mod", "\\bmod", "\\mod"):
        return Congruence(read_expression(tokens[:opening]), read_expression(tokens[opening + 2 : -1]))
    return None
