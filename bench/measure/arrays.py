"""Logits and labels as checked arrays in float64, from arrays and tensors of any device and precision."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def log_softmax(logits: Floats) -> Floats:
    """Of each row of (N, K)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def check(logits: Any, labels: Any) -> tuple[Floats, Labels]:
    """Logits (N, K) and labels (N,).

    Raises:
        ValueError: empty or non-finite logits, or labels that do not fit them.
    """
    logits, labels = to_numpy(logits).astype(np.float64), to_numpy(labels)
    if logits.ndim != 2 or logits.size == 0:
        raise ValueError(f"logits must be (N, K) and not empty, got shape {logits.shape}")
    if labels.shape != logits.shape[:1]:
        raise ValueError(f"labels must be ({len(logits)},) like the logits, got shape {labels.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite, got NaN or infinity")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must be class ids in [0, {logits.shape[1]})")
    return logits, labels.astype(np.int64)


def to_numpy(values: Any) -> NDArray[Any]:
    """An array of what an array or a tensor holds."""
    if hasattr(values, "detach"):  # a tensor; NumPy has no bfloat16, and some devices no float64
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    return np.asarray(values)
