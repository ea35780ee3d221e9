"""Confidence intervals of a mean over problems, where the responses to one problem are one cluster."""

import math

Z = 1.96
"""Of a normal distribution, what 95 % lie within."""


def interval(mean: float, standard_error: float, clusters: int) -> tuple[float, float]:
    """The 95 % interval of a share from 0 to 1, given the standard error over clusters (cluster-robust, analytic).

    Where all clusters agree, the standard error is 0 and says nothing: then it is Wilson's interval of one answer for
    each cluster.
    """
    if standard_error > 0:
        return max(0.0, mean - Z * standard_error), min(1.0, mean + Z * standard_error)
    if clusters < 1:
        return 0.0, 1.0
    centre = (mean + Z**2 / (2 * clusters)) / (1 + Z**2 / clusters)
    half = Z / (1 + Z**2 / clusters) * math.sqrt(mean * (1 - mean) / clusters + Z**2 / (4 * clusters**2))
    return max(0.0, centre - half), min(1.0, centre + half)
