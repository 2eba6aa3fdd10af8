"""A run's logits.npz, read again: whole and its record's, or not at all."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.disk.gone import read_if_there
from bench.record.folder import LOGITS, read_result


def read_logits(folder: Path) -> dict[str, Any] | None:
    """The arrays of a run's logits.npz, or None where there are none that are whole and its record's."""
    try:
        content = (folder / LOGITS).read_bytes()
        record = read_result(folder)
        if record is None:  # nobody knows whose they are
            return None
        digests = record.get("sha256")  # records of an older regbench have none
        if digests is not None and digests.get(LOGITS) != hashlib.sha256(content).hexdigest():
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
        _check_arrays(arrays)
    except Exception:  # NumPy raises whatever a broken file leads it to
        return None
    return arrays


def has_damaged_logits(folder: Path) -> bool:
    """Whether a run's record knows of logits, and those that are there are not they."""
    known = LOGITS in (read_result(folder) or {}).get("sha256", {})
    return known and read_if_there(folder / LOGITS) is not None and read_logits(folder) is None


def _check_arrays(arrays: Mapping[str, Any]) -> None:
    """Raises ValueError or KeyError where they are not what a run has written."""
    for split in ("val", "test"):
        logits, labels = arrays[f"{split}_logits"], arrays[f"{split}_labels"]
        fit = logits.ndim == 2 and labels.shape == logits.shape[:1]
        if not fit or (logits.dtype, labels.dtype) != (np.float32, np.int64) or not np.isfinite(logits).all():
            raise ValueError(f"the logits of {split} are {logits.dtype} {logits.shape}, {labels.dtype} {labels.shape}")
