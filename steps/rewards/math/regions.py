"""Subsets of the reals: from inequalities and intervals, united, intersected, in order."""

import math
from collections.abc import Iterable

from steps.rewards.math.evaluate import approximate, exact
from steps.rewards.math.forms import (
    INFINITY,
    Collection,
    Expr,
    Form,
    Operation,
    Piece,
    Region,
    Row,
    Symbol,
    Unreadable,
    Value,
    negative,
)

UPPER: Expr = Symbol(INFINITY)
LOWER: Expr = negative(UPPER)
REALS = Region((Piece(LOWER, UPPER, True, True),))


def place_of(end: Expr) -> float:
    """Where an end lies. Raises Unreadable for an end that is not a real number."""
    if end == UPPER or end == Operation("+", (UPPER,)):
        return math.inf
    if end == LOWER:
        return -math.inf
    value = exact(end)
    if value is not None:
        return float(value) if abs(value) < 10**300 else math.copysign(1e300, value)
    rough = approximate(end, {})
    if rough is None or abs(rough.imag) > 1e-9:
        raise Unreadable("an interval's end")
    return rough.real


def region(pieces: Iterable[Piece]) -> Region:
    """Pieces in ascending order, joined where they touch. Ends with variables stay as they are written."""
    pieces = tuple(pieces)
    try:
        ends = [(place_of(piece.low), place_of(piece.high), piece) for piece in pieces]
    except Unreadable:
        if len(pieces) == 1:
            return Region(pieces)
        raise
    done: list[tuple[float, float, Piece]] = []
    for low, high, piece in sorted(ends, key=lambda end: (end[0], end[2].low_open)):
        if low > high or (low == high and (piece.low_open or piece.high_open)):
            raise Unreadable("an interval without points")
        if done:
            last_low, last_high, last = done[-1]
            touches = low < last_high or (low == last_high and not (piece.low_open and last.high_open))
            if touches:
                if (high, not piece.high_open) > (last_high, not last.high_open):
                    last = Piece(last.low, piece.high, last.low_open, piece.high_open)
                    last_high = high
                done[-1] = (last_low, last_high, last)
                continue
        done.append((low, high, piece))
    return Region(tuple(piece for _, _, piece in done))


def intersection(left: Region, right: Region) -> Region | None:
    """The points that both have; None where there are none."""
    pieces = []
    for one in left.pieces:
        for other in right.pieces:
            lows = (place_of(one.low), one.low_open, one.low), (place_of(other.low), other.low_open, other.low)
            highs = (-place_of(one.high), one.high_open, one.high), (-place_of(other.high), other.high_open, other.high)
            low, low_open, low_end = max(lows, key=lambda end: end[:2])
            high, high_open, high_end = max(highs, key=lambda end: end[:2])
            if low < -high or (low == -high and not (low_open or high_open)):
                pieces.append(Piece(low_end, high_end, low_open, high_open))
    return region(pieces) if pieces else None


def without_point(whole: Region, point: Expr) -> Region:
    """A region without one of its inner points. Raises Unreadable for another point."""
    at = place_of(point)
    pieces = []
    for piece in whole.pieces:
        if place_of(piece.low) < at < place_of(piece.high):
            pieces.append(Piece(piece.low, point, piece.low_open, True))
            pieces.append(Piece(point, piece.high, True, piece.high_open))
        else:
            pieces.append(piece)
    if len(pieces) == len(whole.pieces):
        raise Unreadable("a point outside the region")
    return region(pieces)


def from_inequality(op: str, bound: Expr) -> Region:
    """Where a variable is in this relation to a bound."""
    if op == "≠":
        return without_point(REALS, bound)
    if op in ("<", "≤"):
        return Region((Piece(LOWER, bound, True, op == "<"),))
    if op in (">", "≥"):
        return Region((Piece(bound, UPPER, op == ">", True),))
    return Region((Piece(bound, bound, False, False),))


def between(low: Expr, low_op: str, high_op: str, high: Expr) -> Region:
    """Where low < x < high. Raises Unreadable where nothing lies between."""
    return region((Piece(low, high, low_op == "<", high_op == "<"),))


def as_region(form: Form) -> Region | None:
    """A form as a subset of the reals, where it can be one: an interval with both ends alike, a set of numbers, several
    of them."""
    if isinstance(form, Region):
        return form
    if isinstance(form, Row) and len(form.items) == 2 and form.brackets in ("()", "[]"):
        low, high = form.items
        if isinstance(low, Value) and isinstance(high, Value) and not low.unit and not high.unit:
            is_open = form.brackets == "()"
            try:
                return region((Piece(low.expr, high.expr, is_open, is_open),))
            except Unreadable:
                return None
        return None
    if isinstance(form, Collection) and form.items:
        parts: list[Piece] = []
        for item in form.items:
            if isinstance(item, Value) and form.braces and not item.unit:
                parts.append(Piece(item.expr, item.expr, False, False))
                continue
            part = as_region(item) if not isinstance(item, Value) else None
            if part is None:
                return None
            parts += part.pieces
        try:
            return region(parts)
        except Unreadable:
            return None
    return None
