"""Whether an answer's form equals the reference's. What is not listed here is not equal."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from steps.rewards.math.evaluate import exact, plain_number, refuted
from steps.rewards.math.forms import (
    Assignment,
    Based,
    Chain,
    Collection,
    Compound,
    Congruence,
    Expr,
    Form,
    Matrix,
    Named,
    Operation,
    Piece,
    Ratio,
    Region,
    Relation,
    Remainder,
    Row,
    Symbol,
    Value,
    Word,
    negative,
    symbols,
)
from steps.rewards.math.matrices import as_matrix
from steps.rewards.math.pool import How, MathPool, Outcome
from steps.rewards.math.quantities import is_time_of_day, reduced
from steps.rewards.math.regions import as_region
from steps.rewards.math.units import PERCENT, same_unit


class Undecided(Exception):
    """The processes came to no decision on a pair of expressions; `outcome` says why. It counts as wrong."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


@dataclass(frozen=True)
class Comparison:
    """Compares forms. `percent`: the question asks for a percentage, so that a bare number is one."""

    pool: MathPool
    percent: bool = False

    def same(self, reference: Form, answer: Form) -> bool:
        """Whether the answer equals the reference. Raises Undecided, and what the pool raises."""
        if isinstance(reference, Named) or isinstance(answer, Named):
            return self._named(reference, answer)
        if isinstance(reference, Assignment) or isinstance(answer, Assignment):
            return self._assigned(reference, answer)
        if isinstance(reference, Value):
            return isinstance(answer, Value) and self._values(reference, answer)
        if isinstance(reference, Word):
            return reference == answer
        if isinstance(reference, Region) or isinstance(answer, Region):
            return self._regions(as_region(reference), as_region(answer))
        if isinstance(reference, Collection):
            return isinstance(answer, Collection) and self._collections(reference, answer)
        if isinstance(reference, Row):
            return self._rows(reference, answer)
        if isinstance(reference, Matrix):
            return self._matrices(reference, as_matrix(answer))
        if isinstance(reference, Relation):
            return isinstance(answer, Relation) and self._relations(reference, answer)
        if isinstance(reference, Chain):
            return isinstance(answer, Chain) and self._chains(reference, answer)
        if isinstance(reference, Compound):
            return isinstance(answer, Compound) and self._in_order(reference.parts, answer.parts)
        if isinstance(reference, Ratio):
            return isinstance(answer, Ratio) and self._ratios(reference, answer)
        if isinstance(reference, Congruence):
            return isinstance(answer, Congruence) and self._congruences(reference, answer)
        assert isinstance(reference, (Based, Remainder))
        return reference == answer

    def expressions(self, reference: Expr, answer: Expr) -> bool:
        """Exactly where both are rational. A number that is written out wants a number that is written out."""
        value = plain_number(reference)
        if value is not None:
            return value == plain_number(answer)
        if reference == answer:
            return True
        if not symbols(answer) <= symbols(reference):
            return False
        left, right = exact(reference), exact(answer)
        if left is not None and right is not None:
            return left == right
        if refuted(reference, answer, symbols(reference)):
            return False
        return self._ask(reference, answer, "equal")

    def _ask(self, reference: Expr, answer: Expr, how: How) -> bool:
        outcome = self.pool.compare(reference, answer, how)
        if outcome not in ("equal", "different"):
            raise Undecided(outcome)
        return outcome == "equal"

    def _values(self, reference: Value, answer: Value) -> bool:
        if answer.bare and not reference.unit and answer.unit in symbols(reference.expr):
            # `12 m` may be twelve times m, if the reference has that variable.
            answer = Value(Operation("*", (answer.expr, Symbol(answer.unit))))
        if (reference.unit == PERCENT) != (answer.unit == PERCENT):
            return not (reference.unit and answer.unit) and self._percentages(reference, answer)
        return same_unit(reference.unit, answer.unit) and self.expressions(reference.expr, answer.expr)

    def _percentages(self, reference: Value, answer: Value) -> bool:
        """One of two with a percent sign. `50%` answers 0.5, and 50 where that was meant as a percentage."""
        left, right = plain_number(reference.expr), plain_number(answer.expr)
        if left is None or right is None:
            return left is right is None and self.expressions(reference.expr, answer.expr)
        if reference.unit:
            return right == left or (right == left / 100 and not self.percent)
        if self.percent:
            return right == left
        return right == left * 100 or (right == left and abs(left) > 1)

    def _named(self, reference: Form, answer: Form) -> bool:
        """A name may stand on one side alone; two must be the same one. An equation may be rearranged."""
        if isinstance(reference, Named) and isinstance(answer, Named):
            if reference.name == answer.name and self.same(reference.form, answer.form):
                return True
            return self._rearranged(reference, answer)
        if isinstance(reference, Named):
            if isinstance(answer, Relation):
                return self._rearranged(reference, answer)
            return not isinstance(answer, Assignment) and self.same(reference.form, answer)
        assert isinstance(answer, Named)
        if isinstance(reference, Relation):
            return self._rearranged(reference, answer)
        return not isinstance(reference, (Assignment, Chain)) and self.same(reference, answer.form)

    def _rearranged(self, reference: Form, answer: Form) -> bool:
        """Equations as equations. `x = 3` is a solution, for which the equation to solve is not an answer."""
        left, right = _as_relation(reference), _as_relation(answer)
        if left is None or right is None:
            return False
        variables = symbols(left.left) | symbols(left.right)
        if isinstance(reference, Named) and len(variables) < 2:
            return False
        return self._relations(left, right)

    def _relations(self, reference: Relation, answer: Relation) -> bool:
        if reference.op != answer.op:
            return False
        left, right = _difference(reference), _difference(answer)
        if symbols(left) != symbols(right) or not symbols(left):
            return reference == answer
        return self._ask(left, right, "proportional" if reference.op in ("=", "≠") else "positively proportional")

    def _chains(self, reference: Chain, answer: Chain) -> bool:
        return len(reference.links) == len(answer.links) and all(map(self._links, reference.links, answer.links))

    def _links(self, reference: Relation, answer: Relation) -> bool:
        """Side by side: `1 = 2 - 1` is a different calculation from `1 = 3 - 2`."""
        if not symbols(reference.left) | symbols(reference.right):
            return reference == answer
        return (
            reference.op == answer.op
            and self.expressions(reference.left, answer.left)
            and self.expressions(reference.right, answer.right)
        )

    def _assigned(self, reference: Form, answer: Form) -> bool:
        if isinstance(reference, Assignment) and isinstance(answer, Assignment):
            values = {value.name: value.form for value in answer.values}
            return values.keys() == {value.name for value in reference.values} and all(
                self.same(value.form, values[value.name]) for value in reference.values
            )
        if isinstance(reference, Assignment):
            if isinstance(answer, Row):
                return answer.brackets == "()" and self._in_order(_point(reference), answer.items)
            if isinstance(answer, Collection) and not answer.braces:
                return self._in_order([value.form for value in reference.values], answer.items)
            return False
        assert isinstance(answer, Assignment)
        if isinstance(reference, Row):
            if answer.ordered and _coordinates(answer) != sorted(_coordinates(answer)):
                return False  # (y, x) = (3, 4)
            return reference.brackets in ("()", "⟨⟩") and self._in_order(reference.items, _point(answer))
        if (
            isinstance(reference, Collection)
            and len({re.sub(r"_?[0-9]+$", "", one.name) for one in answer.values}) == 1
        ):
            # x_1 = 5, x_2 = -2: the roots of one unknown
            return self._collections(reference, Collection(tuple(one.form for one in answer.values), braces=False))
        return False

    def _in_order(self, reference: Sequence[Form], answer: Sequence[Form]) -> bool:
        return len(reference) == len(answer) and all(
            self.same(one, other) for one, other in zip(reference, answer, strict=True)
        )

    def _collections(self, reference: Collection, answer: Collection) -> bool:
        """As often on both sides, in any order. One value in braces is a set, and no number."""
        if len(reference.items) != len(answer.items):
            return False
        if len(reference.items) < 2 and reference.braces != answer.braces:
            return False
        left = list(answer.items)
        for item in reference.items:
            place = next((place for place, other in enumerate(left) if self.same(item, other)), None)
            if place is None:
                return False
            left.pop(place)
        return True

    def _rows(self, reference: Row, answer: Form) -> bool:
        if not isinstance(answer, Row):
            matrix = as_matrix(reference)
            return matrix is not None and isinstance(answer, Matrix) and self._matrices(matrix, answer)
        if {reference.brackets, answer.brackets} not in ({"()"}, {"[]"}, {"⟨⟩"}, {"()", "⟨⟩"}):
            return False
        return self._in_order(reference.items, answer.items)

    def _regions(self, reference: Region | None, answer: Region | None) -> bool:
        if reference is None or answer is None or len(reference.pieces) != len(answer.pieces):
            return False
        return all(self._pieces(one, other) for one, other in zip(reference.pieces, answer.pieces, strict=True))

    def _pieces(self, reference: Piece, answer: Piece) -> bool:
        return (
            (reference.low_open, reference.high_open) == (answer.low_open, answer.high_open)
            and self.expressions(reference.low, answer.low)
            and self.expressions(reference.high, answer.high)
        )

    def _matrices(self, reference: Matrix, answer: Matrix | None) -> bool:
        if answer is None or reference.bars != answer.bars:
            return False
        if [len(row) for row in reference.rows] != [len(row) for row in answer.rows]:
            return False
        pairs = zip(reference.rows, answer.rows, strict=True)
        return all(self._entries(one, other) for one, other in pairs)

    def _entries(self, reference: Sequence[Expr], answer: Sequence[Expr]) -> bool:
        return all(self.expressions(one, other) for one, other in zip(reference, answer, strict=True))

    def _ratios(self, reference: Ratio, answer: Ratio) -> bool:
        if len(reference.terms) != len(answer.terms):
            return False
        if is_time_of_day(reference):
            return self._entries(reference.terms, answer.terms)
        left, right = reduced(reference.terms), reduced(answer.terms)
        if left is not None and right is not None:
            return left == right
        first, other = reference.terms[0], answer.terms[0]
        return all(
            self.expressions(Operation("*", (term, other)), Operation("*", (own, first)))
            for term, own in zip(reference.terms[1:], answer.terms[1:], strict=True)
        )

    def _congruences(self, reference: Congruence, answer: Congruence) -> bool:
        if not self.expressions(reference.modulus, answer.modulus):
            return False
        left, right, modulus = exact(reference.residue), exact(answer.residue), exact(reference.modulus)
        if left is not None and right is not None and modulus:
            return (left - right) % modulus == 0
        return self.expressions(reference.residue, answer.residue)


def _as_relation(form: Form) -> Relation | None:
    if isinstance(form, Relation):
        return form
    if isinstance(form, Named) and form.symbol is not None and isinstance(form.form, Value) and not form.form.unit:
        return Relation("=", form.symbol, form.form.expr)
    return None


def _difference(relation: Relation) -> Expr:
    return Operation("+", (relation.left, negative(relation.right)))


def _point(assignment: Assignment) -> list[Form]:
    """Values in the order of a point: as the names stand in brackets, or by the alphabet, θ after r."""
    values = assignment.values if assignment.ordered else sorted(assignment.values, key=lambda value: value.name)
    return [value.form for value in values]


def _coordinates(assignment: Assignment) -> list[str]:
    return [value.name for value in assignment.values if value.name in ("x", "y", "z")]
