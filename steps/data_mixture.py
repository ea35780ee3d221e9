"""Mixtures of sources by weight, as §2.5.2 gives the numbers of examples of each kind.

A weight is a proportion of rows: with 500, 200 and 5, of 705 rows 5 come from the third source. No row is taken twice,
so that the source which is smallest for its weight decides how many rows there are.
"""

from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import TypeVar

RowT = TypeVar("RowT")


def counts(available: Sequence[int], weights: Sequence[float]) -> list[int]:
    """How many rows each source gives: as many as possible in these proportions, rounded down."""
    # As they are written: the binary number nearest to 0.3 is a little less than three times that nearest to 0.1.
    exact = [Fraction(repr(weight)) for weight in weights]
    unit = min(Fraction(rows) / weight for rows, weight in zip(available, exact, strict=True))
    return [int(unit * weight) for weight in exact]


def mix(sources: Sequence[Sequence[RowT]], weights: Sequence[float], rng: Random) -> list[list[RowT]]:
    """Of each source, that many rows, drawn at random, in the order in which they stand."""
    chosen = counts([len(rows) for rows in sources], weights)
    return [
        [rows[place] for place in sorted(rng.sample(range(len(rows)), count))]
        for rows, count in zip(sources, chosen, strict=True)
    ]
