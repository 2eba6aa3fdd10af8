import math

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from bench.metric import accuracy, brier, ece, nll

METRICS = [accuracy, nll, ece, brier]


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
