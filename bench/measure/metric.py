"""Metrics of predictions: pure functions of (logits, labels), in NumPy float64.

Arrays and tensors of any device and precision are taken; results are Python floats. Torch is not imported here, so that
tables can be made without it. `log_softmax` works row by row, so no metric depends on the batch size, and none depends
on the order of the examples, ties included.

Where a function says no more, its arguments and errors are those of `accuracy`: logits (N, K) of any floating dtype,
labels (N,) of class ids in [0, K), and ValueError for empty or non-finite logits and for labels that do not fit them.
Confidence is the largest probability. Bins are of equal width, (lo, hi], the last one closed at 1.
"""

from math import inf
from typing import Any

import numpy as np
from scipy.special import ndtr

from bench.measure.arrays import Floats, Labels, check, log_softmax
from bench.measure.quantities import of_every_split, of_test, percent

BINS = 15  # as in Guo et al. 2017


@of_every_split("test_accuracy", "val_accuracy", "train_accuracy", "accuracy %", "higher", **percent())
def accuracy(logits: Any, labels: Any) -> float:
    """Share of examples whose largest logit is the label's, in [0, 1]; of equal logits the first counts.

    Args:
        logits: (N, K), any floating dtype.
        labels: (N,) class ids in [0, K).

    Raises:
        ValueError: empty or non-finite logits, or labels that do not fit them.
    """
    logits, labels = check(logits, labels)
    return float((logits.argmax(axis=1) == labels).mean())


@of_test("test_top5_accuracy", "top-5 %", "higher", **percent())
def top5_accuracy(logits: Any, labels: Any) -> float:
    """Share of examples whose label is among the five largest logits, in [0, 1]; 1 where there are at most 5 classes.

    Of equal logits the first count, as in `accuracy`.
    """
    logits, labels = check(logits, labels)
    own = logits[np.arange(len(labels)), labels][:, None]
    before = (logits > own) | ((logits == own) & (np.arange(logits.shape[1]) < labels[:, None]))
    return float((before.sum(axis=1) < 5).mean())


@of_test("test_worst_class_accuracy", "worst class %", "higher", **percent())
def worst_class_accuracy(logits: Any, labels: Any) -> float:
    """The lowest accuracy over the classes that occur among the labels, in [0, 1]."""
    hits, count, _ = _count_classes(logits, labels)
    return float((hits[count > 0] / count[count > 0]).min())


@of_test("test_balanced_accuracy", "balanced accuracy %", "higher", **percent())
def balanced_accuracy(logits: Any, labels: Any) -> float:
    """Mean accuracy over the classes that occur among the labels, in [0, 1].

    Source: Brodersen et al. 2010, "The Balanced Accuracy and Its Posterior Distribution", for any number of classes.
    """
    hits, count, _ = _count_classes(logits, labels)
    return float((hits[count > 0] / count[count > 0]).mean())


@of_test("test_macro_f1", "macro F1 %", "higher", **percent())
def macro_f1(logits: Any, labels: Any) -> float:
    """Mean over classes of F1, the harmonic mean of precision and recall, in [0, 1].

    Over the classes that occur among labels or predictions; one that occurs among one of them alone has an F1 of 0.
    Source: the mean of F1 scores in Opitz & Burst 2019, "Macro F1 and Macro F1", which is that of scikit-learn.
    """
    hits, count, predicted = _count_classes(logits, labels)
    occurs = count + predicted > 0
    return float((2 * hits[occurs] / (count + predicted)[occurs]).mean())


def minority_accuracy(logits: Any, labels: Any, class_counts: Any) -> float | None:
    """Accuracy over the examples of the rarest third of the classes, in [0, 1]; None where there are none.

    The third is rounded down, and is one class at least; of equally rare classes the last count. Deviation: Liu et al.
    2019, "Large-Scale Long-Tailed Recognition in an Open World", take classes of less than 20 training images.

    Args:
        logits: (N, K), any floating dtype.
        labels: (N,) class ids in [0, K).
        class_counts: (K,) training images of each class.

    Raises:
        ValueError: as `accuracy`.
    """
    logits, labels = check(logits, labels)
    counts = np.asarray(class_counts)
    rarest = np.lexsort((-np.arange(len(counts)), counts))[: max(len(counts) // 3, 1)]
    chosen = np.isin(labels, rarest)
    return accuracy(logits[chosen], labels[chosen]) if chosen.any() else None


def _count_classes(logits: Any, labels: Any) -> tuple[Floats, Labels, Labels]:
    """Per class: right predictions, labels, predictions."""
    logits, labels = check(logits, labels)
    predictions, classes = logits.argmax(axis=1), logits.shape[1]
    hits = np.bincount(labels, weights=predictions == labels, minlength=classes).astype(np.float64)
    count, predicted = (np.bincount(ids, minlength=classes).astype(np.int64) for ids in (labels, predictions))
    return hits, count, predicted


@of_every_split("test_nll", "val_nll", "train_nll", "NLL", "lower", range=(0, inf))
def nll(logits: Any, labels: Any) -> float:
    """Mean negative log-likelihood of the hard labels in nats, never smoothed."""
    logits, labels = check(logits, labels)
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


@of_every_split("test_ece", "val_ece", "train_ece", "ECE %", "lower", **percent())
def ece(logits: Any, labels: Any, bins: int = BINS) -> float:
    """Expected calibration error in [0, 1]: top-label confidence, equal-width bins (lo, hi], L1.

    It is biased upward on small test sets: see `ece_debiased`.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 3. The edges are k/bins in float64, and the
    last bin is closed at 1, where half-open bins [lo, hi) would lose a confidence of exactly 1.

    Args:
        logits: (N, K), any floating dtype.
        labels: (N,) class ids in [0, K).
        bins: number of bins, at least 1.

    Raises:
        ValueError: as `accuracy`, or `bins` below 1.
    """
    return ece_of(*_judge(logits, labels), bins)


def ece_of(confidence: Floats, correct: Floats, bins: int = BINS) -> float:
    """`ece` of predictions of which only the confidence, (N,), is known, and whether they are right, 1 or 0."""
    return _weighted_gap(_bin_of(confidence, bins), correct - confidence, bins)


@of_test("test_ece_debiased", "ECE debiased %", "nearer 0", **percent(least=-1))
def ece_debiased(logits: Any, labels: Any, bins: int = BINS) -> float:
    """ECE less an estimate of its bias; it may be below 0.

    A bin's gap g comes with noise of deviation s, so its absolute value is too large on average. That is estimated as
    E|g + s Z| - |g|, Z standard normal, and taken off. It removes two fifths of the bias of perfectly calibrated
    predictions, which have the most of it, and hardly touches large gaps.

    Source: Kumar et al. 2019, "Verified Uncertainty Calibration", in the form of their library for L1, with the folded
    normal's mean in closed form where they draw samples.
    """
    return ece_debiased_of(*_judge(logits, labels), bins)


def ece_debiased_of(confidence: Floats, correct: Floats, bins: int = BINS) -> float:
    """`ece_debiased` of the same."""
    bin_of = _bin_of(confidence, bins)
    count = np.maximum(np.bincount(bin_of, minlength=bins), 1)
    gap = np.abs(np.bincount(bin_of, weights=correct - confidence, minlength=bins)) / count
    share = np.bincount(bin_of, weights=correct, minlength=bins) / count
    deviation = np.sqrt(share * (1 - share) / count)
    z = np.divide(gap, deviation, out=np.full(bins, np.inf), where=deviation > 0)
    noisy = deviation * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) + gap * (1 - 2 * ndtr(-z))
    return float(((2 * gap - noisy) * np.bincount(bin_of, minlength=bins)).sum() / len(confidence))


@of_test("test_ece_equal_mass", "ECE equal-mass %", "lower", **percent())
def ece_equal_mass(logits: Any, labels: Any, bins: int = BINS) -> float:
    """ECE with bins of equal counts instead of equal widths, in [0, 1].

    Source: Nixon et al. 2019, "Measuring Calibration in Deep Learning", adaptive calibration error, of the top label
    and weighted by counts. The example of rank r (0 to N - 1) is in bin floor(r * bins / N); examples of equal
    confidence stay together in the first one's bin, so that their order has no meaning.
    """
    confidence, correct = _judge(logits, labels)
    rank = np.searchsorted(np.sort(confidence), confidence, side="left")
    return _weighted_gap(rank * _check_bins(bins) // len(rank), correct - confidence, bins)


@of_test("test_ece_classwise", "ECE classwise %", "lower", **percent())
def ece_classwise(logits: Any, labels: Any, bins: int = BINS) -> float:
    """Mean over all K classes of the calibration error of that class's probability, in [0, 1].

    Source: Kull et al. 2019, "Beyond temperature scaling", eq. 3; a probability of 0 is in the first bin.
    """
    logits, labels = check(logits, labels)
    probs = np.exp(log_softmax(logits))
    per_class = [_weighted_gap(_bin_of(p, bins), (labels == k) - p, bins) for k, p in enumerate(probs.T)]
    return float(np.mean(per_class))


@of_test("test_mce", "MCE %", "lower", **percent())
def mce(logits: Any, labels: Any, bins: int = BINS) -> float:
    """Maximum calibration error in [0, 1]: the largest gap of any bin. Source: Guo et al. 2017, eq. 4.

    A bin that holds one example counts as much as any, so it says little on small test sets.
    """
    confidence, correct = _judge(logits, labels)
    bin_of = _bin_of(confidence, bins)
    gap, count = np.bincount(bin_of, weights=correct - confidence), np.bincount(bin_of)
    return float((np.abs(gap[count > 0]) / count[count > 0]).max())


@of_test("test_confidence_gap", "confidence gap %", "nearer 0", **percent(least=-1))
def confidence_gap(logits: Any, labels: Any) -> float:
    """Mean confidence less accuracy, in [-1, 1]: above 0 the predictions are over-confident, below under-confident."""
    confidence, correct = _judge(logits, labels)
    return float((confidence - correct).mean())


@of_test("test_entropy", "entropy", "", range=(0, inf))
def entropy(logits: Any, labels: Any) -> float:
    """Mean entropy of the predicted probabilities in nats, in [0, ln K]; the labels are only checked."""
    logits, labels = check(logits, labels)
    log_probs = log_softmax(logits)
    return float(-(np.exp(log_probs) * log_probs).sum(axis=1).mean())


@of_test("test_aurc", "AURC %", "lower", **percent())
def aurc(logits: Any, labels: Any) -> float:
    """Area under the risk-coverage curve, in [0, 1]: the error rate of the n most confident, averaged over n = 1 to N.

    Source: Geifman et al. 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", eq. 2. Examples of
    equal confidence share their errors evenly, which is the mean over all orders of them.
    """
    confidence, correct = _judge(logits, labels)
    levels, group_of, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    errors_per_group = np.bincount(group_of, weights=1 - correct, minlength=len(levels))
    errors = np.repeat(errors_per_group / size, size)
    return float((errors.cumsum() / np.arange(1, len(errors) + 1)).mean())


@of_every_split("test_brier", "val_brier", "train_brier", "Brier", "lower", range=(0, 2))
def brier(logits: Any, labels: Any) -> float:
    """Mean over examples of the sum over classes of (probability - one-hot label)^2, in [0, 2]. Source: Brier 1950."""
    logits, labels = check(logits, labels)
    error = np.exp(log_softmax(logits))
    error[np.arange(len(labels)), labels] -= 1.0
    return float((error**2).sum(axis=1).mean())


def reliability(logits: Any, labels: Any, bins: int = BINS) -> tuple[Labels, Floats, Floats]:
    """What a reliability diagram shows: each bin's count, and its sums of confidence and of correct predictions."""
    confidence, correct = _judge(logits, labels)
    bin_of = _bin_of(confidence, bins)
    confidences: Floats = np.bincount(bin_of, weights=confidence, minlength=bins).astype(np.float64)
    hits: Floats = np.bincount(bin_of, weights=correct, minlength=bins).astype(np.float64)
    return np.bincount(bin_of, minlength=bins).astype(np.int64), confidences, hits


def per_example(logits: Any, labels: Any, bins: int = BINS) -> Floats:
    """What each example adds to the metrics, (N, 3 + bins): the means of its first columns are accuracy, NLL and Brier
    score, and the absolute means of the others sum up to ECE."""
    confidence, correct = _judge(logits, labels)
    logits, labels = check(logits, labels)
    log_probs, examples = log_softmax(logits), np.arange(len(labels))
    parts = np.zeros((len(labels), 3 + bins))
    parts[:, 0], parts[:, 1] = correct, -log_probs[examples, labels]
    error = np.exp(log_probs)
    error[examples, labels] -= 1.0
    parts[:, 2] = (error**2).sum(axis=1)
    parts[examples, 3 + _bin_of(confidence, bins)] = correct - confidence
    return parts


def _judge(logits: Any, labels: Any) -> tuple[Floats, Floats]:
    """Each example's confidence, and 1 where the prediction is right, else 0."""
    logits, labels = check(logits, labels)
    confidence = np.minimum(np.exp(log_softmax(logits).max(axis=1)), 1.0)
    return confidence, (logits.argmax(axis=1) == labels).astype(np.float64)


def _bin_of(probability: Floats, bins: int) -> Labels:
    """The number of the bin (lo, hi] that each probability is in; 0 is in the first."""
    edges = np.arange(_check_bins(bins) + 1) / bins
    return np.maximum(np.searchsorted(edges, probability, side="left") - 1, 0)


def _weighted_gap(bin_of: Labels, gap: Floats, bins: int) -> float:
    """The absolute mean gap of each bin, weighted by its share of the examples."""
    return float(np.abs(np.bincount(bin_of, weights=gap, minlength=bins)).sum() / len(gap))


def _check_bins(bins: int) -> int:
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins must be an integer of at least 1, got {bins}")
    return bins
