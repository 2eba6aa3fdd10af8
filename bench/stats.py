"""Intervals over seeds."""

import math
from collections.abc import Sequence
from functools import cache

from scipy.special import stdtrit


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Two-sided Student t interval (low, high) of the mean of at least two values, with n - 1 degrees of freedom.

    Raises:
        ValueError: fewer than two values; one seed says nothing about the spread.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval needs at least 2 values, got {n}")
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = _t_quantile((1 + level) / 2, n - 1) * deviation / math.sqrt(n)
    return mean - half, mean + half


@cache
def _t_quantile(probability: float, degrees: int) -> float:
    """Student's t quantile; SciPy's own `stats.t.ppf` calls the same function, but takes a second to import."""
    return float(stdtrit(degrees, probability))
