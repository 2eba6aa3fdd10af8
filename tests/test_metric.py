import json
import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.remake_metrics import CASES, make_case
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from bench.measure.metric import (
    accuracy,
    aurc,
    balanced_accuracy,
    brier,
    confidence_gap,
    ece,
    ece_classwise,
    ece_debiased,
    ece_equal_mass,
    entropy,
    macro_f1,
    mce,
    nll,
    per_example,
    reliability,
    top5_accuracy,
    worst_class_accuracy,
)

_OF_BINS = [ece, ece_equal_mass, ece_classwise, ece_debiased, mce]
_OF_CLASSES = [worst_class_accuracy, balanced_accuracy, macro_f1]
METRICS = [accuracy, top5_accuracy, *_OF_CLASSES, nll, brier, *_OF_BINS, confidence_gap, entropy, aurc]
PINNED = json.loads((Path(__file__).parent / "reference" / "metrics.json").read_text())["cases"]


@pytest.fixture
def predictions():
    random = np.random.default_rng(0)
    logits = 3 * random.standard_normal((500, 7))
    labels = np.where(random.random(500) < 0.6, logits.argmax(1), random.integers(0, 7, 500))
    return logits, labels


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_nll_equals_scikit_learns(predictions):
    logits, labels = predictions
    assert nll(logits, labels) == pytest.approx(log_loss(labels, softmax(logits)), rel=1e-12)


def test_brier_equals_scikit_learns(predictions):
    logits, labels = predictions
    theirs = brier_score_loss(labels, softmax(logits), labels=range(7), scale_by_half=False)
    assert brier(logits, labels) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece_equals_torchmetrics_off_the_edges(predictions, bins):
    logits, labels = predictions
    probs = torch.tensor(softmax(logits))
    theirs = multiclass_calibration_error(probs, torch.tensor(labels), num_classes=7, n_bins=bins, norm="l1")
    assert ece(logits, labels, bins=bins) == pytest.approx(theirs.item(), abs=1e-6)


def test_ece_bins_are_open_below_and_closed_above():
    """Two classes, confidence exactly 0.5, the upper edge of bin (0, 0.5], right; and 0.75 in bin (0.5, 1], wrong."""
    logits = np.array([[0.0, 0.0], [math.log(3), 0.0]])
    assert ece(logits, np.array([0, 1]), bins=2) == pytest.approx((0.5 + 0.75) / 2)
    same_bin = np.array([[0.0, 0.0], [0.0, 0.0]])
    assert ece(same_bin, np.array([0, 1]), bins=2) == pytest.approx(0.0)


def test_ece_keeps_a_confidence_of_exactly_1():
    assert ece(np.array([[1000.0, 0.0]]), np.array([1])) == 1.0
    assert ece(np.array([[1000.0, 0.0]]), np.array([0])) == 0.0


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_uniform_logits_give_ln_k(classes):
    logits, labels = np.zeros((classes, classes)), np.arange(classes)
    assert nll(logits, labels) == pytest.approx(math.log(classes))
    assert brier(logits, labels) == pytest.approx(1 - 1 / classes)
    assert accuracy(logits, labels) == pytest.approx(1 / classes)


@pytest.mark.parametrize("metric", METRICS)
def test_neither_order_nor_a_shift_of_the_logits_matters(metric, predictions):
    logits, labels = predictions
    order = np.random.default_rng(1).permutation(len(labels))
    assert metric(logits[order], labels[order]) == pytest.approx(metric(logits, labels), rel=1e-12)
    assert metric(logits + 1e4, labels) == pytest.approx(metric(logits, labels), rel=1e-9)


@pytest.mark.parametrize("metric", [accuracy, nll, brier])
def test_the_batch_size_does_not_matter(metric, predictions):
    logits, labels = predictions
    batches = [metric(logits[i : i + 50], labels[i : i + 50]) for i in range(0, 500, 50)]
    assert np.mean(batches) == pytest.approx(metric(logits, labels), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("metric", METRICS)
def test_tensors_give_python_floats(metric, dtype, predictions):
    logits, labels = (torch.tensor(part) for part in predictions)
    logits = logits.to(dtype).requires_grad_()
    value = metric(logits, labels)
    assert type(value) is float
    assert value == metric(logits.detach().double().numpy(), labels.numpy())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "not empty"),
        (np.array([[0.0, np.nan]]), np.array([0]), "finite"),
        (np.array([[0.0, np.inf]]), np.array([0]), "finite"),
        (np.zeros((2, 3)), np.array([0]), "labels must be"),
        (np.zeros((1, 3)), np.array([3]), "class ids"),
        (np.zeros((1, 3)), np.array([-1]), "class ids"),
        (np.zeros((1, 3)), np.array([0.5]), "class ids"),
        (np.zeros(3), np.array([0]), "logits must be"),
    ],
)
def test_bad_input_is_an_error(metric, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(logits, labels)


@pytest.mark.parametrize("bins", [0, -1, 2.5, "a"])
def test_bins_that_are_no_count_are_an_error(bins):
    with pytest.raises(ValueError, match="bins"):
        ece(np.zeros((1, 2)), np.array([0]), bins=bins)


# Ours, whose it is compared with, what it is called there, and how near it is: the last ones compute in float32.
PARITY = [
    (accuracy, "scikit-learn", "accuracy", 1e-12),
    (top5_accuracy, "scikit-learn", "top5", 1e-12),
    (worst_class_accuracy, "scikit-learn", "worst_class", 1e-12),
    (balanced_accuracy, "scikit-learn", "balanced_accuracy", 1e-12),
    (macro_f1, "scikit-learn", "macro_f1", 1e-12),
    (nll, "scikit-learn", "log_loss", 1e-12),
    (brier, "scikit-learn", "brier", 1e-12),
    (entropy, "torch-uncertainty", "entropy", 1e-12),
    (aurc, "torch-uncertainty", "risk_mean", 1e-12),
    (ece, "torchmetrics", "ece", 1e-12),
    (ece, "netcal", "ece", 1e-12),
    (mce, "torchmetrics", "mce", 1e-12),
    (mce, "netcal", "mce", 1e-12),
    (ece_classwise, "torch-uncertainty", "classwise", 1e-12),
    (ece_classwise, "netcal", "classwise", 1e-12),
    (ece, "torchmetrics", "ece_float32", 1e-6),
    (top5_accuracy, "torchmetrics", "top5", 1e-7),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("metric", "library", "name", "near"), PARITY)
def test_other_libraries_have_it_too(metric, library, name, near, case):
    """Their values are in reference/metrics.json; reference/remake_metrics.py made it, and tells their definitions."""
    theirs = PINNED[case][library].get(name)
    if theirs is not None:  # torchmetrics has no top-5 of 3 classes
        assert metric(*make_case(case)) == pytest.approx(theirs, abs=near)


@pytest.mark.parametrize(("case", "apart"), [("mild", 2.69e-3), ("many", 3.40e-3)])
def test_equal_mass_bins_differ_from_torch_uncertaintys_in_who_gets_the_remainder(case, apart):
    """500 and 1,000 examples in 15 bins: theirs gives the first bins one more, ours spreads the odd ones evenly."""
    logits, labels = make_case(case)
    theirs = PINNED[case]["torch-uncertainty"]["ace"]
    assert theirs - ece_equal_mass(logits, labels) == pytest.approx(apart, abs=1e-5)
    probs = softmax(logits.astype(np.float64))
    order = np.argsort(probs.max(1))
    gap = (probs.argmax(1) == labels) - probs.max(1)
    parts = np.array_split(gap[order], 15)
    assert sum(abs(part.sum()) for part in parts) / len(labels) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_equal_mass_bins_without_a_remainder_equal_sorted_chunks(case):
    logits, labels = (part[:495] for part in make_case(case))
    probs = softmax(logits.astype(np.float64))
    gap = ((probs.argmax(1) == labels) - probs.max(1))[np.argsort(probs.max(1))]
    assert ece_equal_mass(logits, labels) == pytest.approx(np.abs(gap.reshape(15, 33).sum(1)).sum() / 495, abs=1e-12)


def test_ties_share_their_errors_which_is_the_mean_over_their_orders():
    logits = np.array([[3.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    labels = np.array([0, 1, 0, 0])
    areas = []
    for order in permutations(range(1, 4)):
        wrong = (labels[[0, *order]] == 1).cumsum()
        areas.append(np.mean(wrong / np.arange(1, 5)))
    assert aurc(logits, labels) == pytest.approx(np.mean(areas))


def test_a_constant_prediction_is_as_risky_at_any_coverage():
    labels = np.array([0, 0, 0, 1])
    assert aurc(np.tile([2.0, 0.0], (4, 1)), labels) == pytest.approx(0.25)


def test_top5_of_five_classes_is_1_and_of_equal_logits_the_first_count():
    assert top5_accuracy(np.zeros((5, 5)), np.arange(5)) == 1.0
    assert top5_accuracy(np.zeros((10, 10)), np.arange(10)) == 0.5


def test_classes_that_do_not_occur_are_not_the_worst():
    logits = np.eye(4)[[0, 1, 1, 3]]
    assert worst_class_accuracy(logits, np.array([0, 1, 1, 0])) == 0.5


@pytest.mark.parametrize("metric", [balanced_accuracy, macro_f1])
def test_what_all_classes_count_equally_in(metric):
    """All right is 1, whatever is absent; a class that only labels or only predictions have counts as wrong."""
    assert metric(np.eye(4)[[0, 1, 1, 3]], np.array([0, 1, 1, 3])) == 1.0
    assert metric(np.eye(4)[[0, 0, 0, 0]], np.array([0, 0, 0, 2])) == pytest.approx(
        {balanced_accuracy: (1 + 0) / 2, macro_f1: (6 / 7 + 0) / 2}[metric]
    )
    assert metric(np.eye(4)[[3, 3]], np.array([0, 1])) == 0.0


@pytest.mark.parametrize("metric", [balanced_accuracy, macro_f1])
def test_of_equal_logits_the_first_is_predicted(metric):
    labels = np.array([0, 0, 1, 2])
    assert metric(np.zeros((4, 3)), labels) == metric(np.eye(3)[[0, 0, 0, 0]], labels)


def test_how_often_a_class_occurs_does_not_move_balanced_accuracy():
    logits, labels = np.eye(3)[[0, 1, 1, 2]], np.array([0, 1, 2, 2])
    more = np.repeat(np.arange(4), [6, 1, 1, 1])
    assert balanced_accuracy(logits[more], labels[more]) == pytest.approx(balanced_accuracy(logits, labels))
    assert accuracy(logits[more], labels[more]) > accuracy(logits, labels)


def test_the_gap_is_signed():
    sure = np.array([[100.0, 0.0], [100.0, 0.0]])
    assert confidence_gap(sure, np.array([0, 1])) == pytest.approx(0.5)
    assert confidence_gap(np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([0, 0])) == pytest.approx(-0.5)


def test_mce_is_the_largest_gap_and_at_least_ece(predictions):
    assert mce(*predictions) >= ece(*predictions)
    logits = np.array([[0.0, 0.0]] * 9 + [[math.log(9), 0.0]])
    assert mce(logits, np.array([0] * 5 + [1] * 4 + [1])) == pytest.approx(0.9)


@pytest.mark.parametrize("metric", [ece_classwise, ece])
def test_probabilities_of_0_and_1_stay_in_a_bin(metric):
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]])
    assert metric(logits, np.array([0, 1])) == 0.0
    assert metric(logits, np.array([1, 0])) == 1.0


def draw_calibrated(random, n, classes=10):
    """Predictions that are calibrated to perfection: each label is drawn from its own prediction."""
    logits = 2 * random.standard_normal((n, classes))
    return logits, (softmax(logits).cumsum(1) > random.random((n, 1))).argmax(1)


def test_ece_is_biased_upward_on_small_test_sets_and_less_so_when_debiased():
    """Its truth is 0 here. docs/report.md has these figures: they shrink as the root of the number of images."""
    random = np.random.default_rng(0)
    drawn = {n: [draw_calibrated(random, n) for _ in range(200)] for n in (250, 1000, 4000)}
    bias = {n: np.mean([ece(*each) for each in sets]) for n, sets in drawn.items()}
    left = {n: np.mean([ece_debiased(*each) for each in sets]) for n, sets in drawn.items()}
    assert bias[250] > 0.07
    for n in drawn:
        assert 0 < left[n] < 0.65 * bias[n]
    assert bias[250] / bias[1000] == pytest.approx(2, abs=0.25)
    assert bias[1000] / bias[4000] == pytest.approx(2, abs=0.25)


def test_debiasing_hardly_touches_large_gaps():
    logits, labels = make_case("sharp")
    assert ece_debiased(logits, labels) == pytest.approx(ece(logits, labels), rel=0.01)


def test_debiasing_is_the_parametric_bootstrap_in_closed_form():
    """Kumar et al. 2019 draw each bin's accuracy anew from a normal and subtract what that adds to the error."""
    logits, labels = make_case("mild")
    count, confidence, hits = reliability(logits, labels)
    used = count > 0
    n, confidence, share = count[used], confidence[used] / count[used], hits[used] / count[used]
    drawn = np.random.default_rng(0).normal(share, np.sqrt(share * (1 - share) / n), (200_000, len(n)))
    resampled = (np.abs(drawn - confidence) * n).sum(1).mean() / n.sum()
    assert ece_debiased(logits, labels) == pytest.approx(2 * ece(logits, labels) - resampled, abs=1e-4)


def test_the_parts_of_each_example_add_up_to_the_metrics(predictions):
    parts = per_example(*predictions)
    assert parts[:, :3].mean(0) == pytest.approx([accuracy(*predictions), nll(*predictions), brier(*predictions)])
    assert np.abs(parts[:, 3:].mean(0)).sum() == pytest.approx(ece(*predictions))
