"""Values of expressions without an algebra system: exact where they are rational, else rough and only to refute."""

import cmath
import hashlib
import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from steps.rewards.math.forms import Expr, Number, Operation, Symbol

MAX_BITS = 20_000
"""Of a numerator or denominator. What is larger is left to a process that can be killed."""

ROUGHLY = 1e-6
"""Relative difference beyond which rough values refute; far above a float's error, unless terms cancel."""


def plain_number(expr: Expr) -> Fraction | None:
    """The value of a number that is written out: an integer, decimal, fraction, mixed number, or number times a power
    of ten. None for what leaves work to the reader: `7 \\cdot 8`, `2^3`, `\\sqrt{4}`."""
    if isinstance(expr, Number):
        return expr.value
    if not isinstance(expr, Operation):
        return None
    if expr.head == "-":
        value = plain_number(expr.args[0])
        return None if value is None else -value
    if expr.head == "/":
        top, bottom = (_integer(arg) for arg in expr.args)
        return Fraction(top, bottom) if top is not None and bottom else None
    if expr.head == "mixed":
        return exact(expr)
    if expr.head == "*" and len(expr.args) == 2 and isinstance(expr.args[0], Number):
        power = expr.args[1]
        if isinstance(power, Operation) and power.head == "^" and power.args[0] == Number(Fraction(10)):
            return exact(expr) if _integer(power.args[1]) is not None else None
    return None


def _integer(expr: Expr) -> int | None:
    if isinstance(expr, Number) and expr.value.denominator == 1 and not expr.decimal:
        return int(expr.value)
    return None


def exact(expr: Expr) -> Fraction | None:
    """The value of an expression that is rational in each step and not too large; None for any other."""
    try:
        return _exact(expr)
    except (ZeroDivisionError, OverflowError):
        return None


def _exact(expr: Expr) -> Fraction | None:
    if isinstance(expr, Number):
        return expr.value
    if isinstance(expr, Symbol):
        return None
    args = []
    for arg in expr.args:
        value = _exact(arg)
        if value is None:
            return None
        args.append(value)
    apply = _EXACT.get(expr.head)
    value = apply(args) if apply else None
    return value if value is not None and _bits(value) <= MAX_BITS else None


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _power(args: list[Fraction]) -> Fraction | None:
    base, exponent = args
    if exponent.denominator != 1:
        root = _root([base, Fraction(exponent.denominator)])
        return None if root is None else _power([root, Fraction(exponent.numerator)])
    if abs(exponent) * _bits(base) > MAX_BITS:
        return None
    return base**exponent.numerator if base or exponent > 0 else None


def _root(args: list[Fraction]) -> Fraction | None:
    """A rational root of a rational number that is not negative."""
    value, index = args
    if index.denominator != 1 or not 2 <= index <= 64 or value < 0:
        return None
    top, bottom = (_integer_root(one, int(index)) for one in (value.numerator, value.denominator))
    return Fraction(top, bottom) if top is not None and bottom is not None else None


def _integer_root(value: int, index: int) -> int | None:
    root = math.isqrt(value) if index == 2 else round(value ** (1 / index)) if value.bit_length() < 900 else -1
    return next((near for near in (root - 1, root, root + 1) if near >= 0 and near**index == value), None)


def _factorial(args: list[Fraction]) -> Fraction | None:
    value = args[0]
    return Fraction(math.factorial(int(value))) if value.denominator == 1 and 0 <= value <= 1000 else None


def _binomial(args: list[Fraction]) -> Fraction | None:
    n, k = args
    if n.denominator != 1 or k.denominator != 1 or not 0 <= n <= 2000 or k < 0:
        return None
    return Fraction(math.comb(int(n), int(k)))


_EXACT: dict[str, Callable[[list[Fraction]], Fraction | None]] = {
    "+": lambda args: sum(args, Fraction(0)),
    "*": lambda args: math.prod(args, start=Fraction(1)),
    "-": lambda args: -args[0],
    "/": lambda args: args[0] / args[1],
    "^": _power,
    "root": _root,
    "mixed": lambda args: args[0] + args[1] / args[2],
    "abs": lambda args: abs(args[0]),
    "floor": lambda args: Fraction(math.floor(args[0])),
    "ceil": lambda args: Fraction(math.ceil(args[0])),
    "!": _factorial,
    "binom": _binomial,
}


def coordinate(name: str, salt: int) -> Fraction:
    """A value between 1/2 and 3/2 for a variable: the same for the same name, and in no relation to another's."""
    digest = hashlib.sha256(f"{salt}:{name}".encode()).digest()
    return Fraction(1, 2) + Fraction(int.from_bytes(digest[:4], "big"), 2**32)


def approximate(expr: Expr, point: Mapping[str, complex]) -> complex | None:
    """A rough value at a point; None where there is none, or floats cannot hold it."""
    try:
        value = _approximate(expr, point)
    except (ArithmeticError, ValueError, KeyError, TypeError):
        return None
    return value if value is not None and cmath.isfinite(value) else None


def _approximate(expr: Expr, point: Mapping[str, complex]) -> complex:
    if isinstance(expr, Number):
        return complex(float(expr.value))
    if isinstance(expr, Symbol):
        return _CONSTANTS[expr.name] if expr.name in _CONSTANTS else point[expr.name]
    return _FLOATS[expr.head]([_approximate(arg, point) for arg in expr.args])


def _real(value: complex) -> float:
    if value.imag:
        raise ValueError("not real")
    return value.real


def _float_root(args: list[complex]) -> complex:
    value, index = args
    if value.imag == 0 and value.real < 0 and _real(index) % 2 == 1:
        return complex(-((-value.real) ** (1 / index.real)))
    return complex(value ** (1 / index))


def _float_power(args: list[complex]) -> complex:
    base, exponent = args
    if base.imag == 0 and base.real < 0 and exponent.imag == 0 and exponent.real % 1:
        raise ValueError("a root of a negative number")  # real for some exponents, not for others
    return complex(base**exponent)


_CONSTANTS = {"π": complex(math.pi), "e": complex(math.e), "i": 1j}
_FLOATS: dict[str, Callable[[list[complex]], complex]] = {
    "+": lambda args: sum(args, 0j),
    "*": lambda args: math.prod(args, start=1 + 0j),
    "-": lambda args: -args[0],
    "/": lambda args: args[0] / args[1],
    "^": _float_power,
    "root": _float_root,
    "mixed": lambda args: args[0] + args[1] / args[2],
    "abs": lambda args: complex(abs(args[0])),
    "°": lambda args: args[0] * math.pi / 180,
    "!": lambda args: complex(math.gamma(_real(args[0]) + 1)),
    "log": lambda args: cmath.log(args[0]) / cmath.log(args[1]),
    "ln": lambda args: cmath.log(args[0]),
    "exp": lambda args: cmath.exp(args[0]),
    "sin": lambda args: cmath.sin(args[0]),
    "cos": lambda args: cmath.cos(args[0]),
    "tan": lambda args: cmath.tan(args[0]),
}


def refuted(left: Expr, right: Expr, names: frozenset[str]) -> bool:
    """Whether rough values of two expressions at one point with positive coordinates show that they differ."""
    point = {name: complex(float(coordinate(name, 1))) for name in names}
    values = approximate(left, point), approximate(right, point)
    if values[0] is None or values[1] is None:
        return False
    size = max(abs(values[0]), abs(values[1]))
    # Where terms cancel, rough values say nothing.
    return size > 1e-6 and abs(values[0] - values[1]) > ROUGHLY * size
