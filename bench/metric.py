"""Accuracy, NLL, ECE and Brier score: pure functions of (logits, labels), in NumPy float64.

Arrays and tensors of any device and precision are taken; results are Python floats. Torch is not imported here, so that
tables can be made without it. `log_softmax` works row by row, so no metric depends on the batch size.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def accuracy(logits: Any, labels: Any) -> float:
    """Share of examples whose largest logit is the label's, in [0, 1]; of equal logits the first counts.

    Args:
        logits: (N, K), any floating dtype.
        labels: (N,) class ids in [0, K).

    Raises:
        ValueError: empty or non-finite logits, or labels that do not fit them.
    """
    logits, labels = _check(logits, labels)
    return float((logits.argmax(axis=1) == labels).mean())


def nll(logits: Any, labels: Any) -> float:
    """Mean negative log-likelihood of the hard labels in nats, never smoothed. Arguments and errors as `accuracy`."""
    logits, labels = _check(logits, labels)
    return float(-_log_softmax(logits)[np.arange(len(labels)), labels].mean())


def ece(logits: Any, labels: Any, bins: int = 15) -> float:
    """Expected calibration error in [0, 1]: top-label confidence, equal-width bins (lo, hi], L1.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 3. The edges are k/bins in float64, and the
    last bin is closed at 1, where half-open bins [lo, hi) would lose a confidence of exactly 1.

    Args:
        logits: (N, K), any floating dtype.
        labels: (N,) class ids in [0, K).
        bins: number of bins, at least 1.

    Raises:
        ValueError: as `accuracy`, or `bins` below 1.
    """
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins must be an integer of at least 1, got {bins}")
    logits, labels = _check(logits, labels)
    confidence = np.minimum(np.exp(_log_softmax(logits).max(axis=1)), 1.0)
    correct = (logits.argmax(axis=1) == labels).astype(np.float64)
    edges = np.arange(bins + 1) / bins
    bin_of = np.searchsorted(edges, confidence, side="left") - 1
    gap_per_bin = np.bincount(bin_of, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap_per_bin).sum() / len(labels))


def brier(logits: Any, labels: Any) -> float:
    """Mean over examples of the sum over classes of (probability - one-hot label)^2, in [0, 2]. Source: Brier 1950.

    Arguments and errors as `accuracy`.
    """
    logits, labels = _check(logits, labels)
    error = np.exp(_log_softmax(logits))
    error[np.arange(len(labels)), labels] -= 1.0
    return float((error**2).sum(axis=1).mean())


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _check(logits: Any, labels: Any) -> tuple[Floats, Labels]:
    logits, labels = _to_numpy(logits).astype(np.float64), _to_numpy(labels)
    if logits.ndim != 2 or logits.size == 0:
        raise ValueError(f"logits must be (N, K) and not empty, got shape {logits.shape}")
    if labels.shape != logits.shape[:1]:
        raise ValueError(f"labels must be ({len(logits)},) like the logits, got shape {labels.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite, got NaN or infinity")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must be class ids in [0, {logits.shape[1]})")
    return logits, labels.astype(np.int64)


def _to_numpy(values: Any) -> NDArray[Any]:
    if hasattr(values, "detach"):  # a tensor; NumPy has no bfloat16, and some devices no float64
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    return np.asarray(values)
