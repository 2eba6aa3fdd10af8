"""Makes metrics.json: metrics of seeded predictions by other people's libraries, which the tests compare ours with.

    python tests/reference/remake_metrics.py

The tests themselves import only `make_case`, which needs nothing but NumPy. Remaking needs, beyond regbench[dev],
torch-uncertainty and netcal with what these modules of theirs import: einops, seaborn, and pyro-ppl with pyro-api and
opt_einsum (installed with --no-deps, so that their own bounds on versions do not matter).

All values are of the softmax of the float32 logits in float64. Those of float32 precision whatever they
are given are named `*_float32`; beside them is what the same library's inner function makes of float64.

What each library means by a name, read in the sources of these versions; N examples of confidence p = max prob and
correctness a, K classes, 15 bins:

torch-uncertainty 0.13.0
    aurc: r_k is the error rate of the k most confident (order of ties is left open: argsort is not stable). Trapezoids
        over k/N = 1/N to 1, divided by 1 - 1/N: (r_1/2 + r_2 + ... + r_(N-1) + r_N/2) / (N - 1), though its docstring
        states the mean of r_1 to r_N, which is `risk_mean` here.
    augrc: the same trapezoids of r_k * k/N. coverage_at_5_risk: the largest k/N with r_k <= 0.05. risk_at_80_coverage:
        r_k of k = ceil(0.8 N).
    ece, mce: torchmetrics' (subclasses of it).
    ace (adaptive, equal mass): sorted by p, tensor_split in 15: the first N mod 15 bins have one example more. Ties may
        be split. Sum over bins of share * |mean a - mean p|, so weighted by counts; ace_max is the largest gap.
    classwise: for each class, torchmetrics' binary ECE of its probability (all N examples, not those of the class) and
        (label == class); plain mean over all K classes.
    brier: mean over examples of the sum over classes, in [0, 2]; brier_top: mean of (p - a)^2.
    entropy, nll: means over examples, in nats.
    smooth: smECE of the top label, logit kernel, bandwidth by bisection; its sums are float32.
    temperature: LBFGS of 1/T, from 1, on the mean cross-entropy. The defaults, a rate of 0.1 and at most 100 steps
        without line search, stop early; temperature_long has rate 1 and 1000 steps.
netcal 1.4.0
    Probabilities are clipped to [eps, 1 - eps] of their dtype. Bins [lo, hi), the last one closed; empty bins count
    nothing, but see mce.
    ece: weighted by counts. mce: the largest gap, that of empty bins taken as 0. ace: the plain mean of the gaps over
        the bins that are not empty, with the bins of equal *width* of ece.
    *_equal_mass: edges at np.quantile(p, k/15), interpolated linearly, the outer ones moved to 0 and 1. In
        "many", 2 edges are an example's p, which is then in the upper bin.
    classwise: it has none; this is the mean over classes of its binary ECE.
    temperature: L-BFGS-B of 1/T with finite differences, from the log of the clipped probabilities. What it calls
        `temperature` is 1/T.
torchmetrics 1.9.0
    ece, mce: edges linspace(0, 1, 16), bins [lo, hi) and a 16th bin for p == 1 alone. Confidences are float32, and so
        are 1 above 1 - 2^-25. mce: the largest gap, that of empty bins taken as 0.
    top5: micro average; there must be at least 5 classes. Ties go as torch.topk has them.
scikit-learn 1.9.1
    top5: ties go to the higher class id. log_loss: probabilities clipped to [eps, 1 - eps]. brier: scale_by_half=False,
        in [0, 2]. worst_class: the lowest recall. balanced_accuracy: the mean recall of the classes among the labels.
        macro_f1: the mean over the classes among labels or predictions.
    curve_max, curve_mean: largest and plain mean gap of calibration_curve's bins that are not empty, (lo, hi], 0 in the
        first; curve_quantile_*: edges at np.percentile, interpolated linearly.
    temperature: bounded search of log(1/T) in [-10, 10], to 64 eps: the most exact of the three.
"""

import importlib.util
import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

# name: N, K, deviation of the logits, what the label's own logit has more
CASES = {"sharp": (2000, 10, 4.0, 3.0), "mild": (500, 3, 1.0, 1.0), "many": (1000, 100, 2.0, 4.0)}
BINS = 15
LIBRARIES = ["numpy", "torch", "torch-uncertainty", "netcal", "torchmetrics", "scikit-learn", "scipy"]


def make_case(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) in float32 and labels (N,), the same on every machine."""
    n, classes, deviation, own = CASES[name]
    random = np.random.default_rng(0)
    labels = random.integers(classes, size=n)
    logits = deviation * random.standard_normal((n, classes)) + own * np.eye(classes)[labels]
    return logits.astype(np.float32), labels


def by_torch_uncertainty(logits: Any, probs: Any, labels: Any) -> dict[str, float]:
    import torch

    # Their __init__ imports lightning and all that goes with it, and nothing here needs it.
    for name in ("torch_uncertainty", "torch_uncertainty.metrics", "torch_uncertainty.utils"):
        sys.modules[name] = importlib.util.module_from_spec(importlib.util.find_spec(name))
    from torch_uncertainty.metrics import classification as theirs
    from torch_uncertainty.metrics.classification.calibration.adaptive_calibration_error import _ace_compute
    from torch_uncertainty.post_processing.calibration import TemperatureScaler

    logits, probs, labels = (torch.tensor(values) for values in (logits, probs, labels))
    classes = probs.shape[1]
    top = {"task": "multiclass", "num_classes": classes, "num_bins": BINS}
    metrics = {
        "aurc": theirs.AURC(),
        "augrc": theirs.AUGRC(),
        "coverage_at_5_risk": theirs.CovAt5Risk(),
        "risk_at_80_coverage": theirs.RiskAt80Cov(),
        "ece_float32": theirs.CalibrationError(**top),
        "mce_float32": theirs.CalibrationError(**top, norm="max"),
        "ace_float32": theirs.AdaptiveCalibrationError(**top),
        "ace_max_float32": theirs.AdaptiveCalibrationError(**top, norm="max"),
        "classwise": theirs.ClasswiseCalibrationError(classes, num_bins=BINS),
        "brier": theirs.BrierScore(classes),
        "brier_top": theirs.BrierScore(classes, top_class=True),
        "nll": theirs.CategoricalNLL(),
        "smooth_float32": theirs.SmoothCalibrationError(),
    }
    found = {}
    for name, metric in metrics.items():
        metric.update(probs, labels)
        found[name] = metric.compute().item()
    risks = metrics["aurc"].partial_compute()
    found |= {"risk_mean": risks.mean().item(), "risk_first": risks[0].item(), "risk_last": risks[-1].item()}
    entropy = theirs.Entropy()
    entropy.update(probs)
    found["entropy"] = entropy.compute().item()
    confidence, correct = probs.max(1).values, (probs.argmax(1) == labels).double()
    found["ace"] = _ace_compute(confidence, correct, BINS).item()
    found["ace_max"] = _ace_compute(confidence, correct, BINS, norm="max").item()
    for suffix, settings in {"": {}, "_long": {"lr": 1.0, "max_iter": 1000}}.items():
        scaler = TemperatureScaler(**settings)
        scaler.fit([(logits, labels)], progress=False)
        found[f"temperature{suffix}"] = scaler.temperature[0].item()
        found[f"nll_scaled{suffix}"] = torch.nn.functional.cross_entropy(scaler(logits), labels).item()
    return found


def by_netcal(logits: Any, probs: Any, labels: Any) -> dict[str, float]:
    from netcal.metrics import ACE, ECE, MCE
    from netcal.scaling import TemperatureScaling
    from sklearn.metrics import log_loss

    per_class = [ECE(BINS).measure(p, (labels == k).astype(int)) for k, p in enumerate(probs.T)]
    found = {
        "ece": ECE(BINS).measure(probs, labels),
        "mce": MCE(BINS).measure(probs, labels),
        "ace": ACE(BINS).measure(probs, labels),
        "ece_equal_mass": ECE(BINS, equal_intervals=False).measure(probs, labels),
        "mce_equal_mass": MCE(BINS, equal_intervals=False).measure(probs, labels),
        "ace_equal_mass": ACE(BINS, equal_intervals=False).measure(probs, labels),
        "classwise": float(np.mean(per_class)),
    }
    scaler = TemperatureScaling().fit(probs, labels, tensorboard=False)
    found["temperature"] = 1 / scaler.temperature.item()
    found["nll_scaled"] = log_loss(labels, scaler.transform(probs), labels=range(probs.shape[1]))
    return found


def by_torchmetrics(logits: Any, probs: Any, labels: Any) -> dict[str, float]:
    import torch
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error
    from torchmetrics.functional.classification.calibration_error import _ce_compute

    logits, probs, labels = (torch.tensor(values) for values in (logits, probs, labels))
    classes = probs.shape[1]
    confidence, correct = probs.max(1).values, (probs.argmax(1) == labels).double()
    found = {}
    for name, norm in {"ece": "l1", "mce": "max"}.items():
        theirs = multiclass_calibration_error(probs, labels, classes, n_bins=BINS, norm=norm)
        found[f"{name}_float32"] = theirs.item()
        found[name] = _ce_compute(confidence, correct, BINS, norm).item()
    if classes >= 5:
        found["top5"] = multiclass_accuracy(logits, labels, classes, top_k=5, average="micro").item()
    return found


def by_scikit_learn(logits: Any, probs: Any, labels: Any) -> dict[str, float]:
    from sklearn.calibration import _TemperatureScaling, calibration_curve
    from sklearn.exceptions import UndefinedMetricWarning
    from sklearn.metrics import (
        accuracy_score,
        balanced_accuracy_score,
        brier_score_loss,
        f1_score,
        log_loss,
        recall_score,
        top_k_accuracy_score,
    )

    classes, predicted = range(probs.shape[1]), logits.argmax(1)
    found = {
        "accuracy": accuracy_score(labels, predicted),
        "log_loss": log_loss(labels, probs, labels=classes),
        "brier": brier_score_loss(labels, probs, labels=classes, scale_by_half=False),
        "worst_class": recall_score(labels, predicted, average=None).min().item(),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted),
        "macro_f1": f1_score(labels, predicted, average="macro"),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # of 3 classes, all are among the top 5
        found["top5"] = top_k_accuracy_score(labels, logits, k=5, labels=classes)
    for name, strategy in {"curve": "uniform", "curve_quantile": "quantile"}.items():
        right, confidence = calibration_curve(predicted == labels, probs.max(1), n_bins=BINS, strategy=strategy)
        gaps = np.abs(right - confidence)
        found |= {f"{name}_max": gaps.max().item(), f"{name}_mean": gaps.mean().item()}
    scaler = _TemperatureScaling().fit(logits, labels)
    found["temperature"] = 1 / scaler.beta_.item()
    found["nll_scaled"] = log_loss(labels, scaler.predict(logits), labels=classes)
    return found


def main() -> None:
    """Writes metrics.json beside this script."""
    import torch
    from scipy.special import softmax

    torch.set_default_dtype(torch.float64)  # several metrics sum up in the default dtype
    made: dict[str, Any] = {"versions": {name: version(name).split("+")[0] for name in LIBRARIES}, "cases": {}}
    for name in CASES:
        logits, labels = make_case(name)
        arrays = logits.astype(np.float64), softmax(logits.astype(np.float64), axis=1), labels
        made["cases"][name] = {
            "torch-uncertainty": by_torch_uncertainty(*arrays),
            "netcal": by_netcal(*arrays),
            "torchmetrics": by_torchmetrics(*arrays),
            "scikit-learn": by_scikit_learn(*arrays),
        }
    Path(__file__).with_name("metrics.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
