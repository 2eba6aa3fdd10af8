"""Intervals, paired tests and their correction, over seeds; exact where a textbook formula is.

SciPy's own `stats.t` calls the same functions of `scipy.special`, but takes a second to import.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, nctdtrinc, stdtr, stdtrit

Floats = NDArray[np.float64]

FEWEST_SEEDS = 3  # for a test
LEVEL = 0.95  # of every interval
LEVEL_OF_TESTS = 0.05
POWER = 0.8  # with which a difference that is called detectable would be shown
_EQUAL = 1e-12  # what differences vary by, relative to the values, where only rounding makes them differ


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Two-sided 95 % Student t interval (low, high) of the mean of at least two values, with n - 1 degrees of freedom.

    Raises:
        ValueError: fewer than two values; one seed says nothing about the spread.
    """
    low, high = describe(values)[2:]
    if low is None or high is None:
        raise ValueError(f"an interval needs at least 2 values, got {len(values)}")
    return low, high


def describe(values: Sequence[float]) -> tuple[float, float | None, float | None, float | None]:
    """Mean, standard deviation (ddof=1), and low and high of the 95 % t interval, of at least one value.

    All but the mean of one value are None.
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return mean, None, None, None
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile((1 + LEVEL) / 2, n - 1) * deviation / math.sqrt(n)
    return mean, deviation, mean - half, mean + half


class PairedTest(NamedTuple):
    """Mean difference, its 95 % t interval, and p of the paired t test; NaN stands for what there is not."""

    difference: float
    low: float
    high: float
    p: float


def paired_t(differences: Sequence[float] | Floats, scale: float) -> PairedTest:
    """The paired t test of differences, one per common seed, at least one.

    There is no interval with one seed, and no p with two. Differences that do not vary have no t: if all are 0, p is 1;
    one shift in every seed has the p of the two-sided exact test of signs, 2 / 2^n (Conover 1999, "Practical
    Nonparametric Statistics", 3.4).

    Args:
        differences: arm minus baseline.
        scale: the largest absolute value that was subtracted: less than its rounding is no variation.
    """
    differences = np.asarray(differences, dtype=np.float64)
    n, mean = len(differences), float(np.mean(differences))
    if n < 2:
        return PairedTest(mean, math.nan, math.nan, math.nan)
    error = float(np.std(differences, ddof=1)) / math.sqrt(n)
    half = t_quantile((1 + LEVEL) / 2, n - 1) * error
    if n < FEWEST_SEEDS:
        p = math.nan
    elif varies(differences, scale):
        p = 2 * float(stdtr(n - 1, -abs(mean / error)))
    else:
        p = 1.0 if abs(mean) <= _EQUAL * scale else 2.0 ** (1 - n)
    return PairedTest(mean, mean - half, mean + half, p)


def varies(differences: Floats, scale: float) -> bool:
    """Whether differences (n,) of values of at most `scale` differ by more than their rounding."""
    return float(np.ptp(differences)) > _EQUAL * scale


def smallest_detectable(differences: Floats, level: float) -> float:
    """The difference that the two-sided paired t test at this level shows with 80 % power, given the spread of these.

    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", 2.3: by the noncentral t. It is an
    estimate, as the spread is one of n values.

    Args:
        differences: (n,) of at least 2 seeds.
        level: of the test.
    """
    n = len(differences)
    shift = float(nctdtrinc(n - 1, 1 - POWER, t_quantile(1 - level / 2, n - 1)))
    return shift * float(np.std(differences, ddof=1)) / math.sqrt(n)


def mcnemar(arm: Sequence[bool], baseline: Sequence[bool]) -> float:
    """p of the two-sided exact test that an event is as likely in an arm as in its baseline, of paired outcomes.

    Only pairs that differ count: those with the event in the arm are Binomial(pairs, 1/2). Source: McNemar 1947, "Note
    on the sampling error of the difference between correlated proportions or percentages".
    """
    counts = [sum(a and not b for a, b in zip(arm, baseline, strict=True)), sum(map(bool.__lt__, arm, baseline))]
    return min(1.0, 2 * float(bdtr(min(counts), sum(counts), 0.5)))


def holm(p: Sequence[float], size: int | None = None) -> list[float]:
    """Holm's step-down correction of the p values, in [0, 1], of a family, in their order; NaN stays.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    Args:
        p: NaN for what has no p.
        size: of the family with all that was planned, with a p or without; by default those with a p.
    """
    corrected = [math.nan] * len(p)
    members = sorted((i for i, value in enumerate(p) if not math.isnan(value)), key=lambda i: p[i])
    largest, size = 0.0, len(members) if size is None else size
    for rank, i in enumerate(members):
        largest = max(largest, min(1.0, (size - rank) * p[i]))
        corrected[i] = largest
    return corrected


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Ends of an interval of the median, and its exact level: the narrowest of order statistics that reaches 95 %.

    Of fewer than 6 values it is their range, whose level is 1 - 2 / 2^n: 94 % of 5. Source: Conover 1999, "Practical
    Nonparametric Statistics", 3.2.

    Args:
        values: (n,) of any continuous distribution, at least 2.
    """
    ordered, n = sorted(values), len(values)
    tails = [2 * float(bdtr(k, n, 0.5)) for k in range(n // 2)]  # outside of the (k + 1)th and its counterpart
    k = max((k for k, outside in enumerate(tails) if outside <= 1 - LEVEL), default=0)
    return ordered[k], ordered[n - 1 - k], 1 - tails[k]


def share_improved(gains: Floats) -> float:
    """The share of gains (n,), n of at least 1, above 0, those of exactly 0 counted half; NaN where one is NaN."""
    return math.nan if np.isnan(gains).any() else float(((gains > 0) + 0.5 * (gains == 0)).mean())


@cache
def t_quantile(probability: float, degrees: int) -> float:
    """Student's t quantile."""
    return float(stdtrit(degrees, probability))
