"""Means over seeds and paired differences, against figures worked out by hand."""

import math

import pytest

from infra.lineage.statistics import Mean, mean_interval, paired_difference, t_quantile


@pytest.mark.parametrize(
    ("values", "mean", "half"),
    [
        # Variance (4 + 0 + 4) / 2 = 4, standard error 2 / √3, t of 2 degrees 4.303.
        ([2.0, 4.0, 6.0], 4.0, 4.303 * 2 / math.sqrt(3)),
        # Variance 2, standard error 1, t of 1 degree 12.706.
        ([1.0, 3.0], 2.0, 12.706),
        ([0.5, 0.5, 0.5], 0.5, 0.0),
    ],
)
def test_an_interval_is_students_by_hand(values: list[float], mean: float, half: float) -> None:
    actual = mean_interval(values)
    assert actual is not None and actual.low is not None and actual.high is not None
    assert (actual.mean, actual.count) == (pytest.approx(mean), len(values))
    assert (actual.low, actual.high) == (pytest.approx(mean - half), pytest.approx(mean + half))


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert mean_interval([0.5]) == Mean(0.5, None, None, 1)
    assert mean_interval([]) is None
    alone = mean_interval([0.5])
    assert alone is not None and alone.half_width is None and not alone.excludes_zero


def test_a_difference_is_paired_by_seed_and_what_only_one_side_has_is_left_out() -> None:
    base = {0: 0.10, 1: 0.50, 2: 0.90, 7: 0.0}
    other = {0: 0.21, 1: 0.60, 2: 0.99, 8: 1.0}
    difference = paired_difference(base, other)
    # 0.11, 0.10 and 0.09: variance 0.0001, standard error 0.01 / sqrt(3).
    assert difference is not None and difference.count == 3
    assert difference.mean == pytest.approx(0.1)
    assert difference.half_width == pytest.approx(4.303 * 0.01 / math.sqrt(3))
    assert difference.excludes_zero, "although the two means' own intervals overlap"
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.706), (20, 2.086), (21, 2.080), (30, 2.042), (120, 1.980)])
def test_quantiles_are_those_of_published_tables(degrees: int, quantile: float) -> None:
    assert t_quantile(degrees) == pytest.approx(quantile, abs=5e-4)
