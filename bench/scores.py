"""Everything that is told of a finished run's predictions, made from its stored logits, without torch.

It is made once, when the run is recorded. Records of an older regbench lack some of it: the first report makes that
from their logits and keeps it beside them, in metrics.json.
"""

import hashlib
import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bench import metric
from bench.files import write_atomically
from bench.gone import read_if_there
from bench.record import LOGITS, read_result, seal, unseal
from bench.temperature import fit_temperature

MADE_LATER = "metrics.json"

# Of the test split; `evaluate` has accuracy, NLL, ECE and Brier score of every split.
_METRICS = {
    "top5_accuracy": metric.top5_accuracy,
    "worst_class_accuracy": metric.worst_class_accuracy,
    "balanced_accuracy": metric.balanced_accuracy,
    "macro_f1": metric.macro_f1,
    "ece_debiased": metric.ece_debiased,
    "ece_equal_mass": metric.ece_equal_mass,
    "ece_classwise": metric.ece_classwise,
    "mce": metric.mce,
    "confidence_gap": metric.confidence_gap,
    "entropy": metric.entropy,
    "aurc": metric.aurc,
}
# What a report tells of a run beyond that, by column. The generalization gaps are what is lost between the training
# images and the test images; `scaled` is after division by the temperature.
SCORES = [
    *(f"test_{name}" for name in _METRICS),
    *("accuracy_gap", "nll_gap"),
    *("temperature", "temperature_at_bound", "test_nll_scaled", "test_ece_scaled"),
]


def score_run(result: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of SCORES of a finished run; None where it has no number, as without a validation split.

    Args:
        result: its test_accuracy, test_nll, train_accuracy and train_nll.
        arrays: those of logits.npz.
    """
    logits, labels = arrays["test_logits"], arrays["test_labels"]
    scores: dict[str, Any] = dict.fromkeys(SCORES)
    scores |= {f"test_{name}": function(logits, labels) for name, function in _METRICS.items()}
    scores["accuracy_gap"] = result["train_accuracy"] - result["test_accuracy"]
    scores["nll_gap"] = result["test_nll"] - result["train_nll"]
    if len(arrays["val_labels"]):
        temperature, at_bound = fit_temperature(arrays["val_logits"], arrays["val_labels"])
        scaled = scale(logits, temperature)
        scores |= {"temperature": temperature, "temperature_at_bound": at_bound}
        scores |= {"test_nll_scaled": metric.nll(scaled, labels), "test_ece_scaled": metric.ece(scaled, labels)}
    return scores


def scale(logits: Any, temperature: float) -> metric.Floats:
    """Logits / T in float64."""
    return np.asarray(logits, dtype=np.float64) / temperature


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


def complete(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the columns of SCORES: its own, or made from its logits and kept.

    A run that is not finished has none of them, and neither has one whose logits are gone.
    """
    if record["status"] != "done" or all(column in record for column in SCORES):
        return dict(record)
    kept = _read_made(folder, record)
    if kept is None:
        try:
            kept = {"made_of": _stamp(record), **score_run(record, read_logits(folder) or {})}
        except (KeyError, ValueError):  # there are no logits, or none that fit
            return dict(record)
        with suppress(OSError):  # results that may only be read: they are made again next time
            write_atomically(folder / MADE_LATER, seal(kept))
    return {**kept, **record}


def _read_made(folder: Path, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was made of this very record by a regbench that knew all the columns."""
    try:
        made = unseal((folder / MADE_LATER).read_bytes())
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return made if made.get("made_of") == _stamp(record) and made.keys() >= set(SCORES) else None


def _stamp(record: Mapping[str, Any]) -> list[Any]:
    """What tells a record from the one of a later training that replaced it."""
    return [record.get("test_nll"), record.get("train_seconds")]
