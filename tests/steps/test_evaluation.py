"""The percentile that evaluation reports."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.evaluation import percentile


@pytest.mark.parametrize(
    ("count", "share", "wanted"),
    [
        (100, 0.99, 99),
        (1000, 0.99, 990),
        (100, 0.07, 7),
        (100, 0.5, 50),
        (3, 0.5, 2),
        (1, 0.99, 1),
        (4, 1.0, 4),
        (4, 0, 1),
    ],
)
def test_percentiles_are_as_counted_by_hand(count: int, share: float, wanted: int) -> None:
    assert percentile(range(count, 0, -1), share) == wanted


@given(st.lists(st.integers(0, 500), min_size=1, max_size=300), st.integers(1, 100))
def test_the_percentile_is_the_smallest_value_that_enough_do_not_exceed(values: list[int], percent: int) -> None:
    found = percentile(values, percent / 100)
    enough = math.ceil(Fraction(percent, 100) * len(values))
    assert sum(value <= found for value in values) >= enough
    assert sum(value < found for value in values) < enough
