"""What each class of the test images was taken for, as confusion.csv holds it: shares of a class, means over seeds.

Up to MATRIX classes every cell of the matrix that is not empty is a row. Of more classes a matrix is neither readable
nor small (CIFAR-100 has 10,000 cells per arm): there it is the diagonal, which is each class's accuracy, and the pairs
that most test images fall to.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.evidence.stats import describe

MATRIX, PAIRS = 20, 20
CONFUSION_COLUMNS = ["arm_id", "classes", "label", "prediction", "seeds", "images", "share", "low", "high", "made_of"]

Ids = NDArray[np.int64]


def confusion(logits: Sequence[NDArray[Any]], labels: Ids) -> list[dict[str, Any]]:
    """Rows (label, prediction, ...), by label and prediction; of equal logits the first is the prediction.

    `share` is the part of the label's `images` that the seeds took for the prediction, in [0, 1], with the 95 % t
    interval over the seeds, None of one. The diagonal has every class that occurs among the labels.

    Args:
        logits: of each seed, (N, K).
        labels: (N,) class ids in [0, K), of all seeds.
    """
    classes = logits[0].shape[1]
    images = np.bincount(labels, minlength=classes)
    occurring = np.flatnonzero(images)
    per_seed = [_count_cells(labels, each.argmax(axis=1)) for each in logits]
    cells = sorted(set().union(*per_seed, zip(occurring.tolist(), occurring.tolist(), strict=True)))
    counts = {cell: [each.get(cell, 0) for each in per_seed] for cell in cells}
    kept = cells if classes <= MATRIX else _diagonal_and_pairs(counts)
    rows = []
    for label, prediction in kept:
        n = int(images[label])
        mean, _, low, high = (None if each is None else each / n for each in describe(counts[label, prediction]))
        low, high = (None if each is None else min(max(each, 0.0), 1.0) for each in (low, high))
        of = {"classes": classes, "label": label, "prediction": prediction, "seeds": len(logits), "images": n}
        rows.append({**of, "share": mean, "low": low, "high": high})
    return rows


def _count_cells(labels: Ids, predictions: Ids) -> dict[tuple[int, int], int]:
    """How often each pair of label and prediction occurs, of those that do."""
    cells, counts = np.unique(np.stack([labels, predictions]), axis=1, return_counts=True)
    return dict(zip(zip(*cells.tolist(), strict=True), counts.tolist(), strict=True))


def _diagonal_and_pairs(counts: dict[tuple[int, int], list[int]]) -> list[tuple[int, int]]:
    wrong = sorted((cell for cell in counts if cell[0] != cell[1]), key=lambda cell: (-sum(counts[cell]), cell))
    return sorted([cell for cell in counts if cell[0] == cell[1]] + wrong[:PAIRS])
