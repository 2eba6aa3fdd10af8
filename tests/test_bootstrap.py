"""Coverage of the intervals over test images, by simulation, with its Monte Carlo error."""

import math

import numpy as np
import pytest

from bench.evidence.resample import interval, resample
from bench.measure.metric import ece
from bench.record.logit_tables import _say_interval

N, SEEDS, CLASSES = 400, 2, 4


def draw_arm(random, images, over):
    """Logits and labels of some seeds: confidence, common to the seeds but for noise, is `over` above the accuracy."""
    confidence, u = images
    for _ in range(SEEDS):
        c = np.clip(confidence + random.normal(0, 0.02, N), 0.3, 0.995)
        drawn = np.where(random.random(N) < 0.3, random.random(N), u)  # seeds agree on most of the hard images
        probs = np.concatenate([c[:, None], np.repeat((1 - c)[:, None] / (CLASSES - 1), CLASSES - 1, 1)], 1)
        yield {"test_logits": np.log(probs), "test_labels": (drawn >= c - over).astype(int)}


def draw_pair(random, over):
    images = 0.3 + 0.7 * random.beta(4, 1, N), random.random(N)
    return [*draw_arm(random, images, over)], [*draw_arm(random, images, 0)]


def difference_of(arm, baseline):
    each = [[ece(**{k.removeprefix("test_"): v for k, v in run.items()}) for run in runs] for runs in (arm, baseline)]
    return float(np.mean(each[0]) - np.mean(each[1]))


@pytest.mark.parametrize("over", [0.0, 0.05])
def test_the_interval_of_ece_covers_the_difference_that_as_many_images_give(over):
    """300 pairs of arms, of which one is over-confident; the Monte Carlo error of the coverage is 1.3 points."""
    random = np.random.default_rng(0)
    expected = np.mean([difference_of(*draw_pair(random, over)) for _ in range(1500)])
    covered, shifts = 0, []
    for _ in range(300):
        arm, baseline = draw_pair(random, over)
        difference = difference_of(arm, baseline)
        a, b = (np.mean([resample(run)["test_ece"] for run in runs], axis=0) for runs in (arm, baseline))
        found = interval(a - b, difference, "test_ece")
        covered += found["low"] <= expected <= found["high"]
        assert (found["low"] + found["high"]) / 2 == pytest.approx(difference)
        shifts.append(np.mean(a - b) - difference)
    assert covered / 300 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 300)
    assert over == 0 or np.mean(shifts) < -0.1 * expected  # by which percentiles are shifted towards 0


def test_means_keep_their_percentiles_and_cover_the_true_difference():
    random, covered = np.random.default_rng(1), 0
    for _ in range(300):
        arm, baseline = draw_pair(random, 0.05)
        a, b = (np.mean([resample(run)["test_accuracy"] for run in runs], axis=0) for runs in (arm, baseline))
        found = interval(a - b, 0.0, "test_accuracy")
        covered += found["low"] <= -0.05 <= found["high"]
        assert found["interval"] == "percentile"
    assert covered / 300 == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 300))


def test_rows_of_an_older_regbench_are_put_around_their_difference():
    row = {"metric": "test_ece", "difference": "0.03", "low": "0.01", "high": "0.03"}
    new = _say_interval(row)
    assert (float(new["low"]), float(new["high"])) == pytest.approx((0.02, 0.04))
    assert new["interval"] == "recentred"
    assert _say_interval(new) == new
    other = _say_interval(row | {"metric": "test_nll"})
    assert (other["low"], other["high"], other["interval"]) == ("0.01", "0.03", "percentile")
