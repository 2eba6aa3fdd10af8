import numpy as np
import pytest
from scipy import stats

from bench.stats import t_interval


def test_the_interval_equals_scipys():
    values = [0.1, 0.4, 0.35, 0.8]
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(values) == pytest.approx((theirs.low, theirs.high))


def test_the_interval_covers_the_mean_in_95_percent_of_experiments():
    samples = np.random.default_rng(0).standard_normal((2000, 5))
    covered = [low <= 0 <= high for low, high in map(t_interval, samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_one_value_is_an_error():
    with pytest.raises(ValueError, match="at least 2"):
        t_interval([0.5])
