"""The uncertainty of a finite test set, apart from that over seeds: a paired bootstrap over its examples.

Seeds say how much training varies; they all see the same test images, so they cannot say how much other images would
change the result. Test examples are drawn anew with replacement, the same ones for every run, so that a difference of
two arms loses what both find easy or hard. Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap".

Accuracy, NLL and Brier score are means, and have percentile intervals. ECE is none: drawing images anew adds noise to
each bin's gap, and ECE takes the absolute value of gaps, so resampled ECEs are too large, the well calibrated arm's the
most, and percentiles of differences are shifted towards 0. Of ECE the interval is as wide as theirs, but around the
difference itself. It is of the ECE of as many test images, whose bias it shares; it says nothing of the difference of
the calibration errors that infinitely many images would show, which no bootstrap of binned estimates was found to cover
(nor one of `ece_debiased`).
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.evidence.stats import LEVEL
from bench.measure import metric
from bench.measure.arrays import Floats

RESAMPLES = 1000
METRICS = ("test_accuracy", "test_nll", "test_ece", "test_brier")
_RECENTRED = ("test_ece",)


def resample(arrays: Mapping[str, Any]) -> dict[str, Floats]:
    """A run's test metrics on each of 1,000 resampled test sets, (1000,) each, by their column.

    Args:
        arrays: those of logits.npz: finite test_logits (N, K) and test_labels (N,), integers in [0, K).
    """
    parts = metric.per_example(arrays["test_logits"], arrays["test_labels"])
    n = len(parts)
    sums = _draw_counts(n) @ parts.astype(np.float32)  # float32 keeps six digits, noise takes all but two
    ece = np.abs(sums[:, 3:]).sum(axis=1)
    accuracy, nll, brier = sums[:, :3].T
    return {
        key: values.astype(np.float64) / n for key, values in zip(METRICS, (accuracy, nll, ece, brier), strict=True)
    }


def interval(values: Floats, difference: float, column: str) -> dict[str, Any]:
    """The 95 % interval of a resampled difference, as the columns `low`, `high` and `interval` of test_set.csv.

    Args:
        values: the difference in each resample, (n,).
        difference: on the test images themselves.
        column: of runs.csv: ECE's interval is put around the difference.
    """
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return recentre(float(low), float(high), difference, column)


def recentre(low: float, high: float, difference: float, column: str) -> dict[str, Any]:
    """The columns from the percentiles."""
    if column not in _RECENTRED:
        return {"low": low, "high": high, "interval": "percentile"}
    half = (high - low) / 2
    return {"low": difference - half, "high": difference + half, "interval": "recentred"}


@lru_cache(maxsize=1)
def _draw_counts(n: int) -> NDArray[np.float32]:
    """How often each of n examples is in each resample, (1000, n); the same for each run, and for each report."""
    random = np.random.default_rng(0)
    counts = np.empty((RESAMPLES, n), dtype=np.float32)
    for row in counts:
        row[:] = np.bincount(random.integers(n, size=n), minlength=n)
    return counts
