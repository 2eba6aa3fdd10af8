"""Labels as data sets have them, to class numbers from 0 without a gap.

A class that has no image in any split is none: EMNIST's letters count from 1, CLEVR's from 3, and some skip numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import UsageError


def number_classes(
    origin: str, labels: Mapping[str, Any], names: Sequence[str] = ()
) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """Class numbers (N,) of each split in [0, K), and the K classes' names.

    Args:
        origin: what the labels are of, for messages: a file, a folder.
        labels: by split, (N,) or (N, 1), integers or text.
        names: of the classes, by label; where there are none, a class is called as its label is.

    Raises:
        UsageError: no labels, several for an image, labels that are no integers or below 0, or that have no name.
    """
    checked = {split: _check(origin, split, np.asarray(each)) for split, each in labels.items()}
    if len({each.dtype.kind == "U" for each in checked.values()}) > 1:
        raise UsageError(
            f"{origin}: the labels of some splits are numbers, and those of others are text.\n"
            "Save all of them as numbers, or all as text."
        )
    present = np.unique(np.concatenate(list(checked.values())))
    if len(present) == 1:
        raise UsageError(
            f"{origin}: all labels are {present[0]}, and a classifier needs two classes at least.\n"
            "Add images of another class, or take other labels."
        )
    names = () if present.dtype.kind == "U" else names
    if len(names) and present[-1] >= len(names):
        raise UsageError(
            f"{origin}: there is a label {present[-1]}, but the names of {len(names)} classes only.\n"
            f"Give names for all labels from 0 to {present[-1]}, or none."
        )
    numbers = {split: np.searchsorted(present, each).astype(np.int64) for split, each in checked.items()}
    return numbers, [names[label] if len(names) else str(label) for label in present]


def _check(origin: str, split: str, labels: NDArray[Any]) -> NDArray[Any]:
    """The labels as (N,), integers or text."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]  # MedMNIST's and Keras'
    if labels.ndim == 0 or (labels.ndim == 2 and len(labels) == 1):
        raise UsageError(
            f"{origin}: the labels of the {split} split have the shape {labels.shape}, and must be (N,).\n"
            f"Save one for each image{': labels[0]' if labels.ndim else ''}."
        )
    if labels.ndim != 1:
        raise UsageError(
            f"{origin}: the {split} split has several labels for each image ({labels.shape}); training takes one."
            "\nWhere one of them is 1 and the others are 0, save labels.argmax(1); else keep one column."
        )
    if len(labels) == 0:
        raise UsageError(f"{origin}: the {split} split has no images.\nFill it, or leave it out.")
    if labels.dtype.kind not in "biuU":
        missing = labels.dtype.kind == "O" and any(label is None for label in labels.tolist())
        what = "has images without a label" if missing else f"has labels that are {labels.dtype}"
        hint = ": save labels.astype(str)" if labels.dtype.kind == "S" else ", one for each image"
        raise UsageError(f"{origin}: the {split} split {what}.\nLabels must be integers or text{hint}.")
    if labels.dtype.kind == "U":
        return labels
    if labels.min() < 0:
        some = "all labels" if labels.max() < 0 else "some labels"
        hint = "Leave that split out: without one for test, dataset.test_fraction of the training images is for test."
        raise UsageError(
            f"{origin}: {some} of the {split} split are below 0, as where the true ones were not published.\n"
            + ("Leave those images out." if split == "train" else hint)
        )
    return labels.astype(np.int64)
