"""Matrices: rows of expressions in any brackets. Bars around them make a determinant."""

from fractions import Fraction

from steps.rewards.math.evaluate import plain_number
from steps.rewards.math.expression import read_expression
from steps.rewards.math.forms import Expr, Form, Matrix, Number, Operation, Row, Unreadable, Value
from steps.rewards.math.split import Tokens, symbol
from steps.rewards.math.tokens import Token

_AROUND = {("(", ")"), ("[", "]"), ("|", "|"), ("\\lvert", "\\rvert")}
_ENVIRONMENTS = frozenset(("matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "smallmatrix", "array"))


def read_matrix(tokens: Tokens) -> Matrix | None:
    """A matrix, with a factor before it or `^T` behind it or none; None for no matrix. Raises Unreadable for a sum."""
    start = next((place for place, token in enumerate(tokens) if token.kind == "begin"), None)
    if start is None:
        return None
    end = next((place for place, token in enumerate(tokens) if token.kind == "end"), None)
    name = tokens[start].text
    if end is None or name not in _ENVIRONMENTS or any(token.kind == "begin" for token in tokens[start + 1 :]):
        raise Unreadable("not one matrix")
    before, after = tokens[:start], tokens[end + 1 :]
    bars = name == "vmatrix"
    if before and after and (symbol(before[-1]), symbol(after[0])) in _AROUND:
        bars = bars or symbol(before[-1]) in ("|", "\\lvert")
        before, after = before[:-1], after[1:]
    rows = _rows(tokens[start + 1 : end])
    if after:
        exponent = "".join(token.text for token in after)
        if exponent not in ("^T", "^{T}", "^\\top", "^{\\top}"):
            raise Unreadable("not one matrix")
        rows = tuple(zip(*rows, strict=True))
    if before:
        factor = _factor(before)
        rows = tuple(tuple(_times(factor, entry) for entry in row) for row in rows)
    return Matrix(rows, bars)


def _factor(tokens: Tokens) -> Expr:
    if symbol(tokens[-1]) in ("\\cdot", "\\times"):
        tokens = tokens[:-1]
    if len(tokens) == 1 and symbol(tokens[0]) == "-":
        return Number(Fraction(-1))
    return read_expression(tokens)


def _times(factor: Expr, entry: Expr) -> Expr:
    numbers = [plain_number(one) for one in (factor, entry)]
    if numbers[0] is not None and numbers[1] is not None:
        return Number(numbers[0] * numbers[1])
    return Operation("*", (factor, entry))


def _rows(tokens: Tokens) -> tuple[tuple[Expr, ...], ...]:
    rows: list[list[list[Token]]] = [[[]]]
    depth = 0
    for token in tokens:
        depth += (token.text == "{") - (token.text == "}")
        if token.kind == "row" and not depth:
            rows.append([[]])
        elif token.text == "&" and not depth:
            rows[-1].append([])
        elif symbol(token) != "\\hline":
            rows[-1][-1].append(token)
    if rows[-1] == [[]]:
        rows.pop()
    if not rows or len({len(row) for row in rows}) > 1:
        raise Unreadable("rows of different lengths")
    return tuple(tuple(read_expression(tuple(entry)) for entry in row) for row in rows)


def as_matrix(form: Form) -> Matrix | None:
    """`[[1, 2], [3, 4]]` as the matrix that it stands for."""
    if isinstance(form, Matrix):
        return form
    if not isinstance(form, Row) or form.brackets != "[]":
        return None
    rows: list[tuple[Expr, ...]] = []
    for row in form.items:
        if not isinstance(row, Row) or row.brackets != "[]":
            return None
        entries = tuple(entry.expr for entry in row.items if isinstance(entry, Value) and not entry.unit)
        if len(entries) < len(row.items):
            return None
        rows.append(entries)
    return Matrix(tuple(rows)) if len({len(row) for row in rows}) == 1 else None
