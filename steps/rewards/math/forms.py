"""What an answer can be: expressions, and the forms around them. A form says how its parts may be compared."""

from dataclasses import dataclass
from fractions import Fraction

INFINITY = "∞"


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written down, exactly; `decimal` where it has a decimal point."""

    value: Fraction
    decimal: bool = False


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable, a constant (`π`, `e`, `i`, `∞`) or a name of several letters (`AB`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A function of expressions.

    Heads: `+` and `*` of two or more; `-` of one; `/`, `^`, `root` (radicand, index), `log` (argument, base), `binom`,
    `mixed` (whole, numerator, denominator) and `±` (one or two); `call` (a symbol, then its arguments); otherwise a
    function of one argument (`abs`, `!`, `°`, `sin`, …).
    """

    head: str
    args: tuple["Expr", ...]


Expr = Number | Symbol | Operation


@dataclass(frozen=True, slots=True)
class Word:
    """A word or words, compared as text."""

    text: str


@dataclass(frozen=True, slots=True)
class Value:
    """An expression with its unit, in the normal form of `units`; empty where none is written."""

    expr: Expr
    unit: str = ""
    bare: bool = False  # the unit is one letter that could be a variable: 12 m


@dataclass(frozen=True, slots=True)
class Compound:
    """A quantity in several units: 2 hours 30 min."""

    parts: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Remainder:
    """The result of a division with remainder: 12 R 3."""

    quotient: Expr
    rest: Expr


@dataclass(frozen=True, slots=True)
class Based:
    """Digits in another base; `base` is never left out."""

    digits: str  # with its sign
    base: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """Terms of a ratio: 5:9. A time of day looks the same, so terms that could be one are not reduced."""

    terms: tuple[Expr, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Congruence:
    """A residue class: 3 modulo 5."""

    residue: Expr
    modulus: Expr


@dataclass(frozen=True, slots=True)
class Row:
    """Items in order: a point, a vector, an interval with two ends alike. `brackets` is "()", "[]" or "⟨⟩"."""

    brackets: str
    items: tuple["Form", ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """Items in any order; `braces` where they stand in a set's braces. The empty set has no items."""

    items: tuple["Form", ...]
    braces: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """An interval of the reals; an infinite end is open, and a point has two equal closed ends."""

    low: Expr
    high: Expr
    low_open: bool
    high_open: bool


@dataclass(frozen=True, slots=True)
class Region:
    """A subset of the reals, as pieces that do not touch, in ascending order where their ends are numbers."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """An equation or inequality that no name alone stands in: x² + y² = 25. `op` is one of = ≠ < ≤ (> and ≥ turn)."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Chain:
    """Relations one after the other, over what no region is read from: f(2) < f(1) < f(4)."""

    links: tuple[Relation, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of expressions; `bars` for a determinant's bars."""

    rows: tuple[tuple[Expr, ...], ...]
    bars: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """`x = 5`, `AB = 7`, `x ∈ [1, 2]`. `symbol` is the name as an expression where it is a variable."""

    name: str
    form: "Form"
    symbol: Symbol | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """Several names with a value each: x = 3, y = 4. `ordered` where the names stand in brackets: (x, y) = (3, 4)."""

    values: tuple[Named, ...]
    ordered: bool


Form = (
    Word
    | Value
    | Compound
    | Remainder
    | Based
    | Ratio
    | Congruence
    | Row
    | Collection
    | Region
    | Relation
    | Chain
    | Matrix
    | Named
    | Assignment
)


class Unreadable(ValueError):
    """A text is none of the forms; the message says why in a few words, and holds nothing of the text."""


def negative(expr: Expr) -> Expr:
    """Minus an expression; a number keeps being one."""
    if isinstance(expr, Number):
        return Number(-expr.value, expr.decimal)
    return Operation("-", (expr,))


def symbols(expr: Expr) -> frozenset[str]:
    """The names of the variables in an expression, ∞ among them. π, e and i are none, nor is a function's name."""
    if isinstance(expr, Symbol):
        return frozenset() if expr.name in ("π", "e", "i") else frozenset((expr.name,))
    if isinstance(expr, Number):
        return frozenset()
    args = expr.args[1:] if expr.head == "call" else expr.args
    return frozenset().union(*(symbols(arg) for arg in args))
