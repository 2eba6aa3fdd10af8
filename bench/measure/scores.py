"""Everything that is computed of a finished run's predictions, made from its stored logits, without torch.

It is made once, when the run is recorded. Records of an older regbench lack some of it: the first report makes that
from their logits and keeps it beside them, in metrics.json.
"""

from collections.abc import Mapping
from math import inf
from typing import Any

import numpy as np

from bench.measure import metric
from bench.measure.arrays import Floats
from bench.measure.quantities import DECLARED, of_run, percent
from bench.measure.temperature import fit_temperature

of_run("accuracy_gap", "training less test accuracy", "accuracy gap %", **percent(least=-1))
of_run("nll_gap", "test less training NLL", "NLL gap")
of_run("temperature", "by which validation logits are divided for the least NLL", "T", digits=2, range=(0, inf))
of_run("temperature_at_bound", "whether that is an end of the range that is searched")
of_run("test_nll_scaled", "NLL after division by the temperature", "NLL scaled", "lower", range=(0, inf))
of_run("test_ece_scaled", "ECE after division by the temperature", "ECE scaled %", "lower", **percent())
of_run(
    "train_clean_accuracy",
    "accuracy on the training images by their true labels; train_accuracy is by those that were trained on",
    *("train accuracy, true labels %", "higher"),
    where="dataset.label_noise above 0",
    **percent(),
)
of_run(
    "test_minority_accuracy",
    "accuracy on the test images of the third of the classes that are rarest in training",
    *("minority accuracy %", "higher"),
    where="dataset.imbalance below 1",
    **percent(),
)


def score_run(result: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of SCORES of a finished run; None where it has no number, as without a validation split.

    Args:
        result: its test_accuracy, test_nll, train_accuracy and train_nll, and class_counts where it has a long tail.
        arrays: those of logits.npz.
    """
    logits, labels = arrays["test_logits"], arrays["test_labels"]
    of_test = {column: each.function for column, each in DECLARED.items() if len(each.columns) == 1 and not each.where}
    scores: dict[str, Any] = {column: function and function(logits, labels) for column, function in of_test.items()}
    if "class_counts" in result:
        scores["test_minority_accuracy"] = metric.minority_accuracy(logits, labels, result["class_counts"])
    scores["accuracy_gap"] = result["train_accuracy"] - result["test_accuracy"]
    scores["nll_gap"] = result["test_nll"] - result["train_nll"]
    if len(arrays["val_labels"]):
        temperature, at_bound = fit_temperature(arrays["val_logits"], arrays["val_labels"])
        scaled = scale(logits, temperature)
        scores |= {"temperature": temperature, "temperature_at_bound": at_bound}
        scores |= {"test_nll_scaled": metric.nll(scaled, labels), "test_ece_scaled": metric.ece(scaled, labels)}
    return scores


def scale(logits: Any, temperature: float) -> Floats:
    """Logits / T in float64."""
    return np.asarray(logits, dtype=np.float64) / temperature
