"""What a method costs in time: the order of runs, medians of paired ratios, and when they are not to be relied on."""

from types import SimpleNamespace

import numpy as np
import pytest

from bench.evidence.stats import median_interval
from bench.report.cells import Cost, relative_cost
from bench.report.notes import describe_times
from bench.sweep.plan import order_by_seed


def make_runs(seconds, resumed=()):
    return [
        {"seed": str(s), "status": "done", "workers": "1", "threads": "2", "hardware": "x", "train_seconds": str(each)}
        | {"resumed": "True" if s in resumed else ""}
        for s, each in enumerate(seconds)
    ]


def test_all_arms_of_a_seed_are_trained_together():
    todo = [SimpleNamespace(run=SimpleNamespace(seed=seed), arm=arm) for arm in "ab" for seed in (3, 1, 2)]
    order = [(planned.run.seed, planned.arm) for planned in order_by_seed(todo)]
    assert order == [(3, "a"), (3, "b"), (1, "a"), (1, "b"), (2, "a"), (2, "b")]


def test_drift_is_no_cost_where_seeds_are_outermost():
    """A machine that slows down by half during a sweep of two arms that do the same work."""
    todo = [SimpleNamespace(run=SimpleNamespace(seed=seed), arm=arm) for arm in "ab" for seed in range(5)]

    def measure(order):
        seconds = {(each.arm, each.run.seed): 1 + 0.5 * i / 9 for i, each in enumerate(order)}
        return relative_cost(*(make_runs([seconds[arm, s] for s in range(5)]) for arm in "ba")).cell.value

    assert measure(todo) > 1.2
    assert measure(order_by_seed(todo)) == pytest.approx(1, abs=0.06)


def test_the_cost_is_the_median_of_paired_ratios_with_two_figures():
    baseline = [1.0, 2.0, 4.0, 8.0, 16.0]
    arm = [2.0, 4.2, 8.0, 15.0, 160.0]  # of which one was slowed down ten times
    cost = relative_cost(make_runs(arm), make_runs(baseline))
    assert str(cost.cell) == "2.0±8.0"
    assert cost.varies
    assert str(relative_cost(make_runs(baseline), make_runs(baseline)).cell) == "1.0"
    assert str(Cost([0.801, 0.795, 0.812]).cell) == ".80±.01"
    assert str(Cost([12.3, 12.4, 13.4]).cell) == "12±1"
    assert str(Cost([2.0, 3.0]).cell) == "2.5"  # of two there is no interval
    assert str(Cost().cell) == ""


@pytest.mark.parametrize(("n", "level"), [(3, 0.75), (5, 0.9375), (6, 0.96875), (20, 0.9586)])
def test_the_interval_of_a_median_covers_it_as_often_as_it_says(n, level):
    """Of 4,000 samples; the Monte Carlo error is at most 0.7 points."""
    samples = np.random.default_rng(0).exponential(size=(4000, n))
    found = [median_interval(list(each)) for each in samples]
    assert all(each[2] == pytest.approx(level, abs=1e-4) for each in found)
    assert np.mean([low <= np.log(2) <= high for low, high, _ in found]) == pytest.approx(level, abs=0.021)


def test_a_note_says_where_times_are_rough_and_where_runs_were_resumed():
    steady = relative_cost(make_runs([2.0] * 4 + [2.1]), make_runs([1.0] * 5))
    (note,) = describe_times([Cost([1.0] * 5), steady], "none")
    assert "median over seeds ± the farther end of its 94 % interval" in note
    assert "rough" not in note
    assert "resumed" not in note
    odd = relative_cost(make_runs([2.0, 2.0, 2.0, 3.0], resumed=[3]), make_runs([1.0] * 4))
    (note,) = describe_times([steady, odd], "none")
    assert "Times are rough: seeds differ by more than a quarter in 1 of 2 arms" in note
    assert "1 pair of runs had one that was interrupted and resumed" in note
