"""Whether two expressions are the same function, decided by their values at points, with relative precision.

Two formulas that agree at several points that are in no relation to each other, in 25 digits more than are written in
them and than the smallest number on the way has, are equal: no symbolic proof is asked for. The domain counts: √(x²)
is not x, nor is 2 ln x ln(x²). Where the reference holds for whole numbers alone (`(-1)^n`, `n!`), the points are
whole numbers.

NOTE: a short answer can keep this busy for ever (`9^{9^{9^9}}`). It belongs in a process that can be killed.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from mpmath import mp

from steps.rewards.math.evaluate import coordinate
from steps.rewards.math.forms import Expr, Number, Operation, Symbol, symbols
from steps.rewards.math.pool import How

AGREEING_DIGITS = 25
GUARD_DIGITS = 15
"""For what rounding takes."""

NEEDED_POINTS = 3
_SCALES: tuple[int | Fraction, ...] = (1, 1, 4, Fraction(3, 10), 1, 25, Fraction(3, 10), 4)
_FURTHER_SCALES = tuple(scale for scale in (Fraction(1, 20), 100, 10, 400, 2_000, 10_000) for _ in range(2))
"""For functions with values in few places: ln(x - 90), arcsin(10x)."""


class _Undefined(ArithmeticError):
    """An expression has no value at a point."""


class _Values:
    """Values of expressions at one point; remembers how small and how large the numbers on the way were."""

    def __init__(self, point: Mapping[str, Fraction], real: bool) -> None:
        self._point = {name: mp.mpf(value.numerator) / value.denominator for name, value in point.items()}
        self._real = real
        self.smallest = 0
        self.largest = 0

    def of(self, expr: Expr) -> Any:
        """The value of an expression. Raises _Undefined."""
        value = self._value(expr)
        if self._real and isinstance(value, mp.mpc):
            if value.imag:
                raise _Undefined
            value = value.real
        if not mp.isfinite(value):
            raise _Undefined
        if value:
            size = mp.mag(value)
            self.smallest, self.largest = min(self.smallest, size), max(self.largest, size)
        return value

    def _value(self, expr: Expr) -> Any:
        if isinstance(expr, Number):
            return mp.mpf(expr.value.numerator) / expr.value.denominator
        if isinstance(expr, Symbol):
            return _CONSTANTS[expr.name]() if expr.name in _CONSTANTS else self._point[expr.name]
        if expr.head == "call":
            name = expr.args[0]
            assert isinstance(name, Symbol)
            # An unknown function is one that no other is equal to.
            phase = sum(
                float(coordinate(name.name, place)) * self.of(arg) for place, arg in enumerate(expr.args[1:], 2)
            )
            return mp.cos(phase + float(coordinate(name.name, 1)))
        if expr.head == "^":
            return self._power(expr)
        args = [self.of(arg) for arg in expr.args]
        try:
            return _FUNCTIONS[expr.head](*args)
        except (ZeroDivisionError, ValueError, OverflowError, KeyError, TypeError) as error:
            raise _Undefined from error

    def _power(self, expr: Operation) -> Any:
        base, exponent = self.of(expr.args[0]), self.of(expr.args[1])
        if not base:
            if mp.re(exponent) <= 0:
                raise _Undefined  # 0^0 is not agreed on
            return base
        fraction = _rational(expr.args[1])
        if fraction is not None and fraction.denominator % 2 and _negative(base):
            root = -mp.root(-base, fraction.denominator)
            return root**fraction.numerator
        return base**exponent


def _negative(value: Any) -> bool:
    return not mp.im(value) and mp.re(value) < 0


def _rational(expr: Expr) -> Fraction | None:
    if isinstance(expr, Number):
        return expr.value
    if isinstance(expr, Operation) and expr.head == "/":
        top, bottom = (_rational(arg) for arg in expr.args)
        return top / bottom if top is not None and bottom else None
    if isinstance(expr, Operation) and expr.head == "-":
        value = _rational(expr.args[0])
        return None if value is None else -value
    return None


def _root(value: Any, index: Any) -> Any:
    if index == 2:
        return mp.sqrt(value)
    whole = int(index) if mp.isint(index) else 0
    if whole % 2 and _negative(value):
        return -mp.root(-value, whole)
    return mp.root(value, whole) if whole > 0 else value ** (1 / index)


def _sum(*args: Any) -> Any:
    return mp.fsum(args)


_CONSTANTS: dict[str, Callable[[], Any]] = {"π": lambda: +mp.pi, "e": lambda: +mp.e, "i": lambda: mp.mpc(0, 1)}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "+": _sum,
    "*": lambda *args: mp.fprod(args),
    "-": lambda value: -value,
    "/": lambda top, bottom: top / bottom,
    "root": _root,
    "mixed": lambda whole, top, bottom: whole + top / bottom,
    "abs": lambda value: mp.mpf(abs(value)),
    "floor": mp.floor,
    "ceil": mp.ceil,
    "°": lambda value: value * mp.pi / 180,
    "!": mp.factorial,
    "binom": mp.binomial,
    "log": lambda value, base: mp.log(value) / mp.log(base),
    "ln": mp.ln,
    "exp": mp.exp,
    "sgn": mp.sign,
} | {
    name: getattr(mp, re.sub("^ar?c?(?=[sct])", "a", name))
    for name in re.findall(
        r"\S+",
        """
        sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech csch arsinh
        arcosh artanh
        """,
    )
}


def _heads(expr: Expr) -> Iterator[Operation]:
    if isinstance(expr, Operation):
        yield expr
        for arg in expr.args:
            yield from _heads(arg)


def _whole_numbers_only(expr: Expr) -> bool:
    """Whether an expression has values at whole numbers alone: `(-1)^n`, `n!`."""
    for one in _heads(expr):
        if one.head in ("!", "binom") and symbols(one):
            return True
        if one.head == "^" and symbols(one.args[1]) and not symbols(one.args[0]):
            base = one.args[0]
            if isinstance(base, Number) and base.value < 0:
                return True
    return False


def _drawn(name: str, salt: int) -> int:
    return hashlib.sha256(f"{salt}/{name}".encode()).digest()[0]


def _points(names: frozenset[str], whole: bool) -> Iterator[dict[str, Fraction]]:
    for salt, scale in enumerate((*_SCALES, *_FURTHER_SCALES)):
        if whole:
            yield {name: Fraction(1 + _drawn(name, salt) % 12) for name in names}
            continue
        point = {}
        for place, name in enumerate(sorted(names)):
            # All positive, all negative, and mixed; one variable alone has both signs.
            mixed = salt % 4 > 1 and salt < len(_SCALES)
            negative = (_drawn(name, salt) + place) % 2 == 1 if mixed else salt % 2 == 1
            point[name] = coordinate(name, salt) * scale * (-1 if negative else 1)
        yield point


def _written(expr: Expr) -> int:
    """How many digits the numbers in an expression have: π is not 3.14159… to as many digits as anybody writes."""
    if isinstance(expr, Number):
        return int((expr.value.numerator.bit_length() + expr.value.denominator.bit_length()) * 0.302)
    return sum(map(_written, expr.args)) if isinstance(expr, Operation) else 0


def _both(
    left: Expr, right: Expr, point: Mapping[str, Fraction], real: bool, agreeing: int
) -> tuple[Any, Any, Any] | None:
    """The values of both and the difference that is none. None where neither has a value; raises _Undefined where one
    has."""
    mp.dps = start = agreeing + GUARD_DIGITS
    for _ in range(2):
        values = _Values(point, real)
        results: list[Any] = []
        for expr in (left, right):
            try:
                results.append(values.of(expr))
            except _Undefined:
                results.append(None)
        if results[0] is None and results[1] is None:
            return None
        if results[0] is None or results[1] is None:
            raise _Undefined
        # Enough digits that the smallest number on the way still has as many beside the largest.
        needed = start + int((values.largest - values.smallest) * 0.302)
        if needed <= mp.dps + 10:
            break
        mp.dps = needed
    tolerance = mp.ldexp(1, values.smallest) * mp.mpf(10) ** -agreeing
    return results[0], results[1], tolerance


def agree(reference: Expr, answer: Expr, how: How = "equal") -> bool:
    """Whether two expressions are equal, or in proportion, wherever they have values. In doubt they are not.

    proportional: one is a constant multiple of the other, not 0 times it. So are the differences of both sides of one
    equation, however it is written.
    """
    names = symbols(reference) | symbols(answer)
    real = bool(names) and not any(_has_i(expr) for expr in (reference, answer))
    whole = _whole_numbers_only(reference)
    digits = AGREEING_DIGITS + _written(reference) + _written(answer)
    agreeing = 0
    factor: Any = None
    for place, point in enumerate(_points(names, whole)):
        if place >= len(_SCALES) and agreeing >= NEEDED_POINTS:
            break
        try:
            both = _both(reference, answer, point, real, digits)
        except _Undefined:
            return False
        if both is None:
            continue
        left, right, tolerance = both
        if how == "equal":
            if abs(left - right) > tolerance:
                return False
        else:
            if abs(left) <= tolerance or abs(right) <= tolerance:
                return False  # on the curve itself: says nothing, and is next to impossible
            ratio = left / right
            if factor is not None and abs(ratio - factor) > abs(factor) * mp.mpf(10) ** -AGREEING_DIGITS:
                return False
            if how == "positively proportional" and not (mp.im(ratio) == 0 and mp.re(ratio) > 0):
                return False
            factor = ratio
        agreeing += 1
        if not names:
            return True
    return agreeing >= NEEDED_POINTS


def _has_i(expr: Expr) -> bool:
    if isinstance(expr, Operation):
        return any(_has_i(arg) for arg in expr.args)
    return expr == Symbol("i")
