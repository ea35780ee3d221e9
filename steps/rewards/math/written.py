"""Whether a right value is written as the problem asks: simplified, factored, expanded, exact.

The reference shows how far: an answer may not be longer than it, nor have other factors. In doubt it is refused.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

from steps.rewards.math.forms import (
    Assignment,
    Collection,
    Compound,
    Expr,
    Form,
    Matrix,
    Named,
    Number,
    Operation,
    Region,
    Relation,
    Row,
    Symbol,
    Value,
)

RequestedForm = Literal["exact", "simplified", "factored", "expanded"]


def as_requested(requested: RequestedForm, reference: Form, answer: Form) -> bool:
    """Whether an answer that equals the reference is also written as requested."""
    expected, written = list(_expressions(reference)), list(_expressions(answer))
    if requested == "exact":
        decimals = any(_decimal(expr) for expr in expected)
        return decimals or not any(_decimal(expr) for expr in written)
    if requested == "factored":
        return len(expected) == len(written) and _matched(
            [_factors(expr) for expr in expected], [_factors(expr) for expr in written]
        )
    if sum(map(_size, written)) > sum(map(_size, expected)):
        return False
    if requested == "expanded":
        return all(_is_expanded(expr) for expr in written)
    kinds, given_kinds = sorted(map(_kind, expected)), sorted(map(_kind, written))
    return kinds == given_kinds and all(_is_simple(expr) for expr in written)


def _expressions(form: Form) -> Iterator[Expr]:
    """The expressions in a form."""
    if isinstance(form, Value):
        yield form.expr
    elif isinstance(form, Named):
        yield from _expressions(form.form)
    elif isinstance(form, Assignment):
        for value in form.values:
            yield from _expressions(value)
    elif isinstance(form, (Row, Collection)):
        for item in form.items:
            yield from _expressions(item)
    elif isinstance(form, Compound):
        for part in form.parts:
            yield part.expr
    elif isinstance(form, Region):
        for piece in form.pieces:
            yield from (piece.low, piece.high)
    elif isinstance(form, Relation):
        yield from (form.left, form.right)
    elif isinstance(form, Matrix):
        for row in form.rows:
            yield from row


def _decimal(expr: Expr) -> bool:
    if isinstance(expr, Number):
        return expr.decimal
    return isinstance(expr, Operation) and any(_decimal(arg) for arg in expr.args)


def _size(expr: Expr) -> int:
    """How many numbers and letters are written. A sign counts nothing, nor a 1: x/2 is as long as ½x."""
    if isinstance(expr, Operation):
        return sum(_size(arg) for arg in expr.args)
    return int(expr != Number(Fraction(1)))


def _kind(expr: Expr) -> str:
    """A sum or something else; a simplified sum is not answered by a product."""
    while isinstance(expr, Operation) and expr.head == "-":
        expr = expr.args[0]
    return "sum" if isinstance(expr, Operation) and expr.head == "+" else "other"


def _integer(expr: Expr) -> int | None:
    if isinstance(expr, Operation) and expr.head == "-":
        value = _integer(expr.args[0])
        return None if value is None else -value
    return int(expr.value) if isinstance(expr, Number) and expr.value.denominator == 1 else None


def _content(expr: Expr) -> int:
    """The largest whole number that divides all terms of an expression; 1 where none is written."""
    value = _integer(expr)
    if value is not None:
        return abs(value)
    if isinstance(expr, Operation):
        if expr.head == "-":
            return _content(expr.args[0])
        if expr.head == "+":
            return math.gcd(*(_content(arg) for arg in expr.args))
        if expr.head == "*":
            return math.prod(_content(arg) for arg in expr.args)
    return 1


def _is_simple(expr: Expr) -> bool:
    """Whether nothing in an expression is left to be worked out: no 2/4, √12, 3·4, 2 + 5, x + x."""
    if not isinstance(expr, Operation):
        return True
    if not all(_is_simple(arg) for arg in expr.args):
        return False
    head, args = expr.head, expr.args
    if head == "/":
        top, bottom = args
        if _integer(bottom) is not None and (_integer(bottom) or 0) <= 1:
            return False
        if isinstance(bottom, Operation) and any(one.head == "root" for one in _operations(bottom)):
            return False  # 1/√2
        return math.gcd(_content(top), _content(bottom)) == 1 and not _shared(top, bottom)
    if head == "root":
        radicand, index = _integer(args[0]), _integer(args[1])
        if radicand is None or index is None:
            return not isinstance(args[0], Operation) or args[0].head != "/"
        return radicand > 1 and all(radicand % divisor**index for divisor in range(2, _root(radicand, index) + 1))
    if head in ("+", "*"):
        numbers = [arg for arg in args if _rational(arg)]
        if len(numbers) > 1 or (head == "*" and any(_integer(one) in (0, 1, -1) for one in numbers)):
            return False
        rest = [_without_coefficient(arg) if head == "+" else arg for arg in args if not _rational(arg)]
        if head == "*":
            rest = [one.args[0] if isinstance(one, Operation) and one.head == "^" else one for one in rest]
            if sum(isinstance(one, Operation) and one.head == "root" for one in rest) > 1:
                return False  # √2·√3
        return len({repr(one) for one in rest}) == len(rest)
    if head == "^":
        return not (_rational(args[0]) and _rational(args[1])) and _integer(args[1]) not in (0, 1)
    if head == "-":
        return not (isinstance(args[0], Operation) and args[0].head == "-")
    return head not in ("!", "binom") or not all(_rational(arg) for arg in args)


def _root(value: int, index: int) -> int:
    return min(100_000, round(value ** (1 / index)) + 1)


def _operations(expr: Expr) -> Iterator[Operation]:
    if isinstance(expr, Operation):
        yield expr
        for arg in expr.args:
            yield from _operations(arg)


def _rational(expr: Expr) -> bool:
    if isinstance(expr, Operation):
        return expr.head in ("-", "/", "mixed") and all(_rational(arg) for arg in expr.args)
    return isinstance(expr, Number)


def _without_coefficient(expr: Expr) -> Expr:
    """`x` of `3x` and `-x`."""
    if isinstance(expr, Operation) and expr.head == "-":
        return _without_coefficient(expr.args[0])
    if isinstance(expr, Operation) and expr.head == "*":
        rest = tuple(arg for arg in expr.args if not _rational(arg))
        return rest[0] if len(rest) == 1 else Operation("*", rest)
    return expr


def _shared(top: Expr, bottom: Expr) -> bool:
    """Whether a factor with a variable stands above and below the line."""
    above, below = ({repr(_base(one)) for one in _parts(side)} for side in (top, bottom))
    return bool(above & below)


def _parts(expr: Expr) -> tuple[Expr, ...]:
    if isinstance(expr, Operation) and expr.head == "*":
        return expr.args
    return (expr,)


def _base(expr: Expr) -> Expr:
    return expr.args[0] if isinstance(expr, Operation) and expr.head == "^" else expr


def _is_expanded(expr: Expr) -> bool:
    """Whether no sum is left in brackets, and no two terms are alike."""
    for one in _operations(expr):
        if one.head in ("*", "^") and any(_kind(arg) == "sum" for arg in one.args[: 1 if one.head == "^" else None]):
            return False
        if one.head == "-" and _kind(one.args[0]) == "sum":
            return False
        if one.head == "+":
            rest = [_without_coefficient(arg) for arg in one.args if not _rational(arg)]
            if len({repr(term) for term in rest}) < len(rest) or sum(map(_rational, one.args)) > 1:
                return False
    return True


Factors = dict[tuple[object, ...], int]


def _factors(expr: Expr) -> Factors:
    """The factors of an expression with their exponents, each without regard to its sign and to the order of terms."""
    factors: Factors = {}

    def add(one: Expr, times: int) -> None:
        if isinstance(one, Operation) and one.head == "-":
            return add(one.args[0], times)
        if isinstance(one, Operation) and one.head == "*":
            for arg in one.args:
                add(arg, times)
            return None
        if isinstance(one, Operation) and one.head == "/":
            add(one.args[0], times)
            return add(one.args[1], -times)
        if isinstance(one, Operation) and one.head == "^":
            exponent = _integer(one.args[1])
            if exponent is not None:
                return add(one.args[0], times * exponent)
        if isinstance(one, Number) and abs(one.value) == 1:
            return None
        key = _key(one)
        factors[key] = factors.get(key, 0) + times
        return None

    add(expr, 1)
    return factors


def _key(expr: Expr) -> tuple[object, ...]:
    """A factor up to its sign: its terms with their coefficients, the first one's positive."""
    terms = expr.args if isinstance(expr, Operation) and expr.head == "+" else (expr,)
    coefficients: dict[str, Fraction] = {}
    for term in terms:
        coefficient, rest = _coefficient(term)
        coefficients[rest] = coefficients.get(rest, Fraction(0)) + coefficient
    ordered = sorted(coefficients.items())
    sign = -1 if ordered[0][1] < 0 else 1
    return tuple((rest, coefficient * sign) for rest, coefficient in ordered)


def _coefficient(term: Expr) -> tuple[Fraction, str]:
    if isinstance(term, Number):
        return term.value, ""
    if isinstance(term, Operation) and term.head == "-":
        value, rest = _coefficient(term.args[0])
        return -value, rest
    if isinstance(term, Operation) and term.head == "*":
        numbers = [arg.value for arg in term.args if isinstance(arg, Number)]
        rest_args = sorted(repr(arg) for arg in term.args if not isinstance(arg, Number))
        return math.prod(numbers, start=Fraction(1)), "*".join(rest_args)
    return Fraction(1), repr(term) if isinstance(term, (Operation, Symbol)) else ""


def _matched(expected: list[Factors], written: list[Factors]) -> bool:
    left = list(written)
    for one in expected:
        if one not in left:
            return False
        left.remove(one)
    return True
