"""Which images are trained on and which validate: stratified, and with a long tail of rare classes where asked for;
and which are for test where the data came without a split.

Long tail: of K classes, in the order of their labels, the k-th keeps n_max * ratio^(k / (K - 1)) images, rounded down:
the first is the most frequent, the last the rarest, as in the papers' own data.

Source: Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples", and the code of Cao et al. 2019,
"Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss". Their imbalance is 1 / ratio.
Deviation: they take n_max from classes of equal size; here it is the most for which no class has too few images, so
that the ratio holds on data that are uneven to begin with, too.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.config.settings import Choice
from bench.errors import UsageError
from bench.rng import stream

Indices = NDArray[np.int64]

SPLIT_SEED = 0  # of all runs, unless dataset.split_seed is set
_ROUNDING = 1e-9  # 100 * 0.29 is 28.999999999999996


def split_indices(choice: Choice, labels: NDArray[np.int64], kept: Indices | None = None) -> tuple[Indices, Indices]:
    """Indices of the training and of the validation images in the full training split, or of those of it that are kept.

    They are one draw for all runs, or that of the choice's `split_seed`, a number.

    Raises:
        UsageError: none are kept, none of a class, or fewer than train_size asks for.
    """
    order = stratified_order(labels, choice.values["split_seed"] or SPLIT_SEED)
    if kept is not None:  # in the same order, so that validation is nearly the same with drop_duplicates and without
        order = order[np.isin(order, kept)]
    if len(order) == 0:
        raise UsageError(
            f"dataset.drop_duplicates=true leaves no image of {choice.name} to train on: all are in test or "
            "validation, too, or have several labels.\nGive it other test images, or leave drop_duplicates out."
        )
    val, rest = np.split(order, [round(choice.values["val_fraction"] * len(order))])
    tail, ratio = rest, choice.values["imbalance"]
    if ratio < 1 and len(rest):
        tail = take_long_tail(rest, labels, ratio)
        if len(tail) == 0:
            raise UsageError(
                f"dataset.imbalance={ratio} leaves no image of the rarest class: {choice.name} has {len(rest)} for "
                "training in all.\nRaise it, up to 1, or lower dataset.val_fraction."
            )
    train_size = choice.values["train_size"] or len(tail)
    if train_size > len(tail):
        raise UsageError(
            f"dataset.train_size={train_size} is more than dataset {choice.name} has: "
            f"{len(labels)} training images, of which validation takes {len(val)}"
            + f" and drop_duplicates {len(labels) - len(order)}" * (len(order) < len(labels))
            + f" and imbalance {len(rest) - len(tail)}" * (len(tail) < len(rest))
            + f".\nAsk for at most {len(tail)}, or lower dataset.val_fraction."
        )
    return tail[:train_size], val


def split_off_test(labels: Indices, class_names: Sequence[str], test_fraction: float) -> tuple[Indices, Indices]:
    """Indices of the training and of the test images, stratified, of data that came without a test split.

    Raises:
        UsageError: no image for test, or none of a class for training.
    """
    test, train = np.split(stratified_order(labels), [round(test_fraction * len(labels))])
    if len(test) == 0:
        raise UsageError(f"dataset.test_fraction={test_fraction} leaves no picture to test on.\nRaise it.")
    everywhere, trained = (np.bincount(some, minlength=len(class_names)) for some in (labels, labels[train]))
    for name, n, left in zip(class_names, everywhere, trained, strict=True):
        if n and left == 0:
            raise UsageError(
                f"class {name} has too few pictures ({n}): the test split takes all of them.\n"
                f"Lower dataset.test_fraction={test_fraction}, or add pictures."
            )
    return train, test


def stratified_order(labels: Indices, seed: int = SPLIT_SEED) -> Indices:
    """A random order, fixed by `seed`, of which every stretch holds each class in proportion, to an example or so."""
    return _spread(stream(seed, "split").permutation(len(labels)), labels)


def take_long_tail(order: Indices, labels: Indices, ratio: float) -> Indices:
    """The first images of each class in a stratified order, in such an order again: a smaller ratio's lie within a
    larger one's where the first class is no larger than another. None where the rarest class would have no image.

    Args:
        order: indices into `labels`.
        labels: (N,) class ids; classes that `order` has none of do not count.
        ratio: of the rarest class's images to the most frequent one's, in (0, 1].
    """
    present, counts = np.unique(labels[order], return_counts=True)
    kept = count_long_tail(counts, ratio)
    if kept[-1] == 0:
        return order[:0]
    firsts = [order[labels[order] == label][:n] for label, n in zip(present, kept, strict=True)]
    return _spread(order[np.isin(order, np.concatenate(firsts))], labels)


def count_long_tail(counts: Indices, ratio: float) -> Indices:
    """How many images each class keeps, of so many (K,)."""
    shares = ratio ** np.linspace(0, 1, len(counts))
    most = np.floor((counts / shares).min() + _ROUNDING)
    kept: Indices = np.floor(most * shares + _ROUNDING).astype(np.int64)
    return kept


def _spread(order: Indices, labels: Indices) -> Indices:
    """The order with its classes spread evenly over it; among images of one class it stays."""
    position = np.empty(len(labels))
    for label in np.unique(labels[order]):
        members = order[labels[order] == label]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    by_position: NDArray[np.int64] = order[np.argsort(position[order], kind="stable")]
    return by_position
