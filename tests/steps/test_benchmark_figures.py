"""Figures of several responses, worked out by hand and by trying every subset."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.intervals import interval
from steps.benchmark_figures import classes_of, clustered, majority_at, pass_at, powers_of_two


@pytest.mark.parametrize(
    ("right", "samples", "k", "expected"),
    [(1, 4, 1, 0.25), (1, 4, 2, 0.5), (2, 4, 2, 5 / 6), (0, 4, 4, 0.0), (3, 4, 2, 1.0), (4, 4, 1, 1.0)],
)
def test_pass_at_k_is_as_worked_out_by_hand(right: int, samples: int, k: int, expected: float) -> None:
    assert pass_at(right, samples, k) == pytest.approx(expected)


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_response(right: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(right)))
    subsets = list(combinations(right, k))
    assert pass_at(sum(right), len(right), k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_counts_are_powers_of_two_and_all_of_them() -> None:
    assert [powers_of_two(samples) for samples in (1, 2, 4, 6)] == [[1], [1, 2], [1, 2, 4], [1, 2, 4, 6]]


def test_equal_answers_are_one_class_and_a_response_without_one_votes_for_nothing() -> None:
    calls: list[tuple[str, str]] = []

    def same(one: str, other: str) -> bool:
        calls.append((one, other))
        return float(one) == float(other)

    assert classes_of(["1", None, "1.0", "2", "1", "2.00"], same) == [0, None, 0, 1, 0, 1]
    assert ("1", "1") not in calls, "the same text is not compared again"


@pytest.mark.parametrize(
    ("classes", "right", "k", "expected"),
    [
        ([0, 0, 1, 1], [True, True, False, False], 4, 1.0),  # two votes each: the class that came first
        ([1, 0, 0, None], [False, True, True, False], 4, 1.0),
        ([0, 1, 1, None], [True, False, False, False], 4, 0.0),
        ([0, 1, 0, 0], [True, False, True, True], 2, 1.0),  # the groups (0, 1) and (0, 0)
        ([1, 0, 0, 0], [False, True, True, True], 2, 0.5),
        ([None, None], [False, False], 2, 0.0),
    ],
)
def test_majorities_are_as_counted_by_hand(
    classes: list[int | None], right: list[bool], k: int, expected: float
) -> None:
    assert majority_at(classes, right, k) == expected


def test_the_standard_error_is_that_of_problems_and_not_of_responses() -> None:
    # Means 1, 0, 1, 0: standard deviation sqrt(1/3), over 2.
    mean, error = clustered([1.0, 0.0, 1.0, 0.0])
    assert mean == 0.5 and error == pytest.approx((1 / 3) ** 0.5 / 2)
    assert clustered([0.25]) == (0.25, 0.0)


def test_intervals_stay_within_0_and_1_and_are_never_empty() -> None:
    assert interval(0.5, 0.1, 20) == pytest.approx((0.304, 0.696))
    assert interval(0.05, 0.1, 20)[0] == 0.0
    low, high = interval(0.0, 0.0, 10)
    # Wilson's upper bound of 0 of 10: z² / (n + z²).
    assert low == 0.0 and high == pytest.approx(3.8416 / 13.8416)
    assert interval(1.0, 0.0, 10) == pytest.approx((1 - 3.8416 / 13.8416, 1.0))
