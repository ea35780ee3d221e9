"""Expressions as JSON, between the pool and its processes."""

from fractions import Fraction
from typing import Any

from steps.rewards.math.forms import Expr, Number, Operation, Symbol


def encode(expr: Expr) -> list[Any]:
    """An expression as nested lists."""
    if isinstance(expr, Number):
        return ["number", str(expr.value)]
    if isinstance(expr, Symbol):
        return ["symbol", expr.name]
    return [expr.head, *(encode(arg) for arg in expr.args)]


def decode(lists: list[Any]) -> Expr:
    """The expression that `encode` wrote; whether a number was a decimal is lost."""
    head, *args = lists
    if head == "number":
        return Number(Fraction(args[0]))
    if head == "symbol":
        return Symbol(args[0])
    return Operation(head, tuple(decode(arg) for arg in args))
