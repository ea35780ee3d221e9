"""Figures of runs that differ in nothing but their seed: means with confidence intervals, and differences between two
such groups, paired by seed. Pure functions.

A difference that is paired leaves out what a seed does to both sides alike, so its interval is narrower than those of
the two means suggest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_Z = 1.959964
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
"""The 97.5 % quantiles of Student's t distribution with 1 to 20 degrees of freedom."""


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95 % interval."""

    mean: float
    low: float | None
    """None for a single seed, which says nothing about the spread; `high` likewise."""
    high: float | None
    count: int
    """Seeds."""

    @property
    def half_width(self) -> float | None:
        """Of the interval."""
        return None if self.high is None else self.high - self.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """From low to high; None for a single seed."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def plain(self) -> dict[str, float | None]:
        """As JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "seeds": self.count}

    def words(self, figure: str, sign: str = "") -> list[str]:
        """The mean and its interval as texts, shares in per cent; `sign` is `+` for a difference."""
        form = f"{sign}.1%" if figure.endswith("accuracy") else f"{sign}.4g"
        ends = self.interval
        return [f"{self.mean:{form}}", "–" if ends is None else f"[{ends[0]:{form}}, {ends[1]:{form}}]"]

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval: of a difference, whether it is more than chance at 5 %."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_interval(values: Sequence[float]) -> Mean | None:
    """The mean of independent values and its 95 % interval by Student's t; None of no values."""
    count = len(values)
    if count == 0:
        return None
    mean = math.fsum(values) / count
    if count == 1:
        return Mean(mean, None, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = t_quantile(count - 1) * math.sqrt(variance / count)
    return Mean(mean, mean - half, mean + half, count)


def paired_difference(base: Mapping[int, float], other: Mapping[int, float]) -> Mean | None:
    """The mean of `other` minus `base` over the seeds that both have; None where they share none.

    Args:
        base: a figure by seed; `other` likewise.
    """
    return mean_interval([other[seed] - base[seed] for seed in sorted(base.keys() & other.keys())])


def t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t distribution, to three digits; beyond the table by Abramowitz and Stegun,
    26.7.5."""
    if degrees <= len(_T):
        return _T[degrees - 1]
    first = (_Z**3 + _Z) / 4
    second = (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96
    third = (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384
    return _Z + first / degrees + second / degrees**2 + third / degrees**3
