"""An arm's runs as one model, which is free once they are trained: the mean of their probabilities.

Source: Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
section 2.4. Probabilities are averaged, not logits; smaller ensembles are of subsets of the runs.
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.measure.arrays import Floats, Labels, log_softmax
from bench.measure.metric import ece_debiased_of, ece_of

MOST_SUBSETS = 70  # of one size: all there are of up to 8 runs
ENSEMBLE_METRICS = ("accuracy", "nll", "ece", "ece_debiased")
_BLOCK = 2**17  # probabilities of a run that are averaged at a time: those of several runs fit a cache

Subset = tuple[int, ...]


def ensemble(logits: Sequence[NDArray[Any]], labels: Labels) -> list[dict[str, Any]]:
    """A row for each number of members, 1 to S: metrics of so many runs' mean probabilities, averaged over `subsets`.

    One member is the mean over single runs, and S is the ensemble of all.

    Args:
        logits: of each of S runs, (N, K), finite.
        labels: (N,) class ids in [0, K), of all runs.
    """
    sizes = range(1, len(logits) + 1)
    subsets = [subset for members in sizes for subset in choose_subsets(len(logits), members)]
    block = max(1, _BLOCK // logits[0].shape[1])
    starts = range(0, len(labels), block)
    parts = [_judge([each[i : i + block] for each in logits], labels[i : i + block], subsets) for i in starts]
    judged = [np.concatenate(part, axis=1) for part in zip(*parts, strict=True)]
    scores = [_score(*each) for each in zip(*judged, strict=True)]
    rows: list[dict[str, Any]] = []
    for members in sizes:
        of_size = [score for subset, score in zip(subsets, scores, strict=True) if len(subset) == members]
        means = dict(zip(ENSEMBLE_METRICS, np.mean(of_size, axis=0).tolist(), strict=True))
        rows.append({"members": members, "subsets": len(of_size), **means})
    return rows


def choose_subsets(runs: int, members: int) -> list[Subset]:
    """All subsets of so many members, or MOST_SUBSETS of them: always the same, each as likely as any."""
    if comb(runs, members) <= MOST_SUBSETS:
        return list(combinations(range(runs), members))
    random, found = np.random.default_rng(members), set[Subset]()
    while len(found) < MOST_SUBSETS:
        found.add(tuple(sorted(random.permutation(runs)[:members].tolist())))
    return sorted(found)


def _judge(
    logits: Sequence[NDArray[Any]], labels: Labels, subsets: Sequence[Subset]
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Each subset's confidence, whether it is right, and its negative log-likelihood, of each image: (subsets, N).

    The likelihood is averaged as a logarithm: a run that is sure of another class may give the label a probability
    that is 0 in float64.
    """
    log_probs = [log_softmax(each.astype(np.float64)) for each in logits]
    own = np.stack([each[np.arange(len(labels)), labels] for each in log_probs])
    probs = np.exp(log_probs)
    confidence, right, loss = (np.empty((len(subsets), len(labels)), kind) for kind in (float, bool, float))
    for i, subset in enumerate(subsets):
        mean = np.add.reduce([probs[run] for run in subset]) / len(subset)
        predictions = mean.argmax(axis=1)
        confidence[i] = np.minimum(mean[np.arange(len(labels)), predictions], 1.0)
        right[i] = predictions == labels
        loss[i] = np.log(len(subset)) - np.logaddexp.reduce(own[list(subset)])
    return confidence, right, loss


def _score(confidence: Floats, right: NDArray[np.bool_], loss: Floats) -> tuple[float, ...]:
    """ENSEMBLE_METRICS of one model's N predictions."""
    correct = right.astype(np.float64)
    return float(correct.mean()), float(loss.mean()), ece_of(confidence, correct), ece_debiased_of(confidence, correct)
