"""The rule by which claims are judged, on made-up results of each kind."""

import math

import numpy as np
import pytest
from scipy import stats

from bench.evidence.claim import judge_claim, parse_region

SPREAD = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) / 100


def judge(text, *means, spread=SPREAD, **how):
    return judge_claim({str(mean): mean + spread for mean in means}, parse_region(text), **how)


@pytest.mark.parametrize(
    ("text", "mean", "verdict"),
    [
        ("> 0", 0.05, "supported"),
        ("> 0", -0.05, "contradicted"),
        ("> 0", 0.005, "inconclusive"),
        ("> 0.04", 0.035, "inconclusive"),
        ("> 0.1", 0.05, "contradicted"),  # there is an effect, but not the one that was claimed
        ("< 0", -0.05, "supported"),
        ("< -0.02", 0.0, "contradicted"),
        ("|effect| < 0.02", 0.001, "supported"),
        ("|effect| < 0.02", 0.015, "inconclusive"),
        ("|effect| < 0.02", -0.04, "contradicted"),
        ("|effect|<1e-3", 0.0, "inconclusive"),
    ],
)
def test_the_interval_lies_inside_outside_or_neither(text, mean, verdict):
    found = judge(text, mean)
    assert found.verdict == found.decisive.verdict == verdict
    low, high = stats.t.interval(0.95, 4, mean, SPREAD.std(ddof=1) / math.sqrt(5))
    assert (found.decisive.low, found.decisive.high) == pytest.approx((low, high))


@pytest.mark.parametrize("text", ["0.1", ">= 0", "> a", "|effect| > 1", "|effect| < -1", "", "effect > 0"])
def test_what_is_no_region_is_refused(text):
    with pytest.raises(ValueError, match="is no region: write"):
        parse_region(text)


def test_seeds_needed_are_the_fewest_with_which_such_an_interval_decides():
    effect = judge("> 0", 0.004).decisive
    deviation = SPREAD.std(ddof=1)

    def low(n):
        return 0.004 - stats.t.ppf(0.975, n - 1) * deviation / math.sqrt(n)

    assert low(effect.seeds_needed) > 0 > low(effect.seeds_needed - 1)
    assert judge("> 0", 0.05).decisive.seeds_needed is None
    assert judge("> 0.004", 0.004).decisive.seeds_needed is None  # no number of seeds will do


def test_fewer_than_three_seeds_decide_nothing():
    for seeds in (0, 1, 2):
        found = judge("> 0", 0.05, spread=SPREAD[:seeds])
        assert (found.verdict, found.decisive.seeds) == ("inconclusive", seeds)
        assert math.isnan(found.decisive.low)


def test_seeds_that_are_all_equal_decide_by_the_test_of_signs():
    assert judge("> 0", 0.05, spread=np.zeros(5)).verdict == "inconclusive"  # p is 2 / 2^5
    assert judge("> 0", 0.05, spread=np.zeros(6)).verdict == "supported"


def test_all_values_must_be_inside_or_one_where_that_suffices():
    assert judge("> 0", 0.05, 0.06).verdict == "supported"
    assert judge("> 0", 0.05, -0.06).verdict == "contradicted"
    assert judge("> 0", 0.05, 0.001).verdict == "inconclusive"
    assert judge("> 0", 0.05, -0.06, any_suffices=True).verdict == "supported"
    assert judge("> 0", -0.05, -0.06, any_suffices=True).verdict == "contradicted"
    assert judge("> 0", -0.05, 0.001, any_suffices=True).verdict == "inconclusive"


def test_the_effect_that_is_shown_is_the_one_that_decides():
    assert judge("> 0", 0.05, 0.06).decisive.value == "0.05"
    assert judge("> 0", 0.05, -0.03, -0.06).decisive.value == "-0.06"
    assert judge("> 0", 0.05, 0.06, -0.06, any_suffices=True).decisive.value == "0.06"
    assert judge("> 0", -0.05, 0.001, any_suffices=True).decisive.value == "0.001"


def test_intervals_of_several_values_are_holms():
    one, two, three = judge("> 0", 0.05, 0.03, 0.04).effects
    error = SPREAD.std(ddof=1) / math.sqrt(5)
    for effect, level in ((one, 1 - 0.05 / 3), (three, 1 - 0.05 / 2), (two, 0.95)):
        assert effect.low == pytest.approx(effect.mean - stats.t.ppf((1 + level) / 2, 4) * error)
    undecided, clear, also = judge("> 0", 0.001, 0.05, 0.0015).effects  # at the first that decides nothing it ends
    assert clear.high - clear.low > also.high - also.low
    assert undecided.high - undecided.low == pytest.approx(also.high - also.low)


@pytest.mark.parametrize("any_suffices", [True, False])
def test_a_claim_that_is_false_is_supported_in_fewer_than_5_percent_of_1000_experiments(any_suffices):
    """Three values whose true effects are at the end of the region; the bound is three Monte Carlo errors above 2.5 %
    for each side."""
    random, region = np.random.default_rng(0), parse_region("> 0")
    verdicts = []
    for _ in range(1000):
        differences = {str(value): random.standard_normal(5) for value in range(3)}
        verdicts.append(judge_claim(differences, region, any_suffices=any_suffices).verdict)
    wrong = verdicts.count("supported" if any_suffices else "contradicted")
    assert 0 < wrong / 1000 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
    assert verdicts.count("contradicted" if any_suffices else "supported") / 1000 < 0.005
