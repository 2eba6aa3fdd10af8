"""Statistics that a single seed does not ruin: the interquartile mean and the probability of improvement.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", 4.2 and 4.3, with
their percentile bootstrap over runs. With five seeds such an interval is too narrow: see tests/test_robust.py for how
often it covers. It stands beside the paired t test, not in its place.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.evidence.stats import LEVEL
from bench.measure.arrays import Floats

RESAMPLES = 2000
_TRIMMED = 0.25  # at each end


def interquartile_mean(values: Floats) -> Floats:
    """The mean over the last axis (..., n), less a quarter of the values, rounded down, at each end; of 3 it is all.

    Reduces to: `scipy.stats.trim_mean(values, 0.25)`, which is theirs.
    """
    n = values.shape[-1]
    cut = int(_TRIMMED * n)
    return np.asarray(np.sort(values, axis=-1)[..., cut : n - cut].mean(axis=-1))


def probability_of_improvement(gains: Floats) -> Floats:
    """How likely a run of an arm is better than one of its baseline: the share of pairs above 0, ties counted half.

    Args:
        gains: (..., arm's runs, baseline's runs), by how much the one is better than the other.
    """
    return np.asarray(((gains > 0) + 0.5 * (gains == 0)).mean(axis=(-2, -1)))


def bootstrap_mean(values: Floats) -> tuple[float, float, float]:
    """The interquartile mean of runs (n,), and its 95 % interval."""
    return float(interquartile_mean(values)), *_interval(lambda draw: interquartile_mean(values[draw(len(values))]))


def bootstrap_improvement(gains: Floats) -> tuple[float, float, float]:
    """The probability of improvement of gains (arm's runs, baseline's runs), and its 95 % interval."""
    arm, baseline = gains.shape
    return float(probability_of_improvement(gains)), *_interval(
        lambda draw: probability_of_improvement(gains[draw(arm)[:, :, None], draw(baseline)[:, None, :]])
    )


def _interval(estimate: Callable[[Callable[[int], NDArray[np.int64]]], Floats]) -> tuple[float, float]:
    """Percentiles of what an estimate is on resampled runs; `draw` gives indices (2000, n) with replacement."""
    random = np.random.default_rng(0)
    values = estimate(lambda n: random.integers(n, size=(RESAMPLES, n)))
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
