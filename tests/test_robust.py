"""Interquartile means and probabilities of improvement: against SciPy, with a seed that all but diverged, coverage."""

import csv
import inspect
import io
import math

import numpy as np
import pytest
from scipy import stats
from test_notes import make_rows, noisy, show
from test_stats import settings_of

from bench.evidence.pairing import read_arms
from bench.evidence.robust import (
    bootstrap_improvement,
    bootstrap_mean,
    interquartile_mean,
    probability_of_improvement,
)
from bench.report.robust import make_robust


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 11])
def test_the_interquartile_mean_is_scipys_trimmed_mean(n):
    values = np.random.default_rng(n).standard_normal((4, n))
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25, axis=-1))


def test_the_probability_of_improvement_is_mann_and_whitneys_u():
    random = np.random.default_rng(0)
    arm, baseline = random.integers(0, 5, 7).astype(float), random.integers(0, 5, 6).astype(float)
    u = stats.mannwhitneyu(arm, baseline).statistic
    assert probability_of_improvement(arm[:, None] - baseline) == pytest.approx(u / 42)


def test_the_interval_is_near_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).standard_normal(20)
    _, low, high = bootstrap_mean(values)
    generator = "rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state"  # until SciPy 1.15
    theirs = stats.bootstrap(
        (values,),
        lambda v, axis: stats.trim_mean(v, 0.25, axis=axis),
        method="percentile",
        **{generator: np.random.default_rng(1)},
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.05)


def test_one_seed_that_all_but_diverges_ruins_the_mean_and_not_these():
    values = {"none": noisy(0.5, 8, 1), "sam": [*noisy(0.3, 7, 2), 1e20]}
    layout, lines, _ = show(values, "test_nll")
    assert lines["sam/sgd"].cells[0].value > 1e19
    rows = make_rows(values, "test_nll")
    robust = make_robust(layout, read_arms(rows, settings_of(rows)))
    iqm, p_better = robust.lines[1].cells[:2]
    assert iqm.value == pytest.approx(0.3, abs=0.01)
    assert p_better.value == pytest.approx(7 / 8)
    assert robust.header == ["regularizer", "optimizer", "seeds", "NLL IQM", "P better", "evals", "time"]
    assert [cell.mean for cell in robust.lines[0].cells[1:2]] == [""]  # the baseline is not set against itself


@pytest.mark.parametrize(("n", "coverage"), [(3, 0.77), (5, 0.88), (30, 0.93)])
def test_coverage_with_few_seeds_is_below_95_percent(n, coverage):
    """Of 1,000 experiments; the Monte Carlo error is 1.3, 1.0 and 0.8 points. Four of them are allowed."""
    random = np.random.default_rng(0)
    intervals = [bootstrap_mean(random.standard_normal(n))[1:] for _ in range(1000)]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    assert covered == pytest.approx(coverage, abs=4 * math.sqrt(coverage * (1 - coverage) / 1000))


def test_an_even_chance_is_in_the_interval_of_arms_that_are_alike():
    random = np.random.default_rng(1)
    draws = [random.standard_normal((2, 10)) for _ in range(300)]
    ends = [bootstrap_improvement(a[:, None] - b)[1:] for a, b in draws]
    assert np.mean([low <= 0.5 <= high for low, high in ends]) > 0.9


def test_report_prints_them_in_every_format(report):
    assert "P better" in report("--robust")
    assert "IQM" in report("--robust", "--format", "markdown")
    rows = list(csv.DictReader(io.StringIO(report("--robust", "--format", "csv", "--metric", "nll"))))
    assert len(rows) == 20
    for row in rows:
        assert float(row["test_nll_iqm_low"]) <= float(row["test_nll_iqm_mean"]) <= float(row["test_nll_iqm_high"])
        assert bool(row["test_nll_p_better_mean"]) == (row["regularizer"] != "none")
