"""Mixtures of sources by weight."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.data_mixture import counts, mix

WEIGHTS = st.floats(0.001, 1000)


@pytest.mark.parametrize(
    ("available", "weights", "expected"),
    [
        ([500, 200, 100], [5, 2, 1], [500, 200, 100]),
        ([500, 500, 500], [5, 2, 1], [500, 200, 100]),
        # §2.5.2's proportions, where the fourth kind is short.
        ([600, 300, 300, 2, 50], [500, 200, 200, 5, 20], [200, 80, 80, 2, 8]),
        ([10, 10], [0.5, 0.5], [10, 10]),
        ([10, 3], [0.9, 0.1], [10, 1]),
        ([10, 1000, 1000], [0.1, 0.3, 0.7], [10, 30, 70]),
    ],
)
def test_counts_are_in_proportion_to_weights(available: list[int], weights: list[float], expected: list[int]) -> None:
    assert counts(available, weights) == expected


@given(st.lists(st.tuples(st.integers(1, 500), WEIGHTS), min_size=1, max_size=6))
def test_no_source_gives_more_than_it_has_and_one_gives_all(sources: list[tuple[int, float]]) -> None:
    available, weights = [rows for rows, _ in sources], [weight for _, weight in sources]
    chosen = counts(available, weights)
    assert all(0 <= count <= rows for count, rows in zip(chosen, available, strict=True))
    assert any(count == rows for count, rows in zip(chosen, available, strict=True))


@given(st.integers(0, 99))
def test_rows_are_drawn_by_the_seed_alone_none_twice_and_stay_in_order(seed: int) -> None:
    sources = [list(range(100)), list(range(100, 140))]
    first, second = mix(sources, [1, 1], Random(seed))
    assert (first, second) == tuple(mix(sources, [1, 1], Random(seed)))
    assert len(first) == len(set(first)) == 40 and first == sorted(first) and second == sources[1]
    assert first != list(range(40))
