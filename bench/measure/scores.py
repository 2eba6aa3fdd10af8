"""Everything that is told of a finished run's predictions, made from its stored logits, without torch.

It is made once, when the run is recorded. Records of an older regbench lack some of it: the first report makes that
from their logits and keeps it beside them, in metrics.json.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.measure import metric
from bench.measure.temperature import fit_temperature

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
