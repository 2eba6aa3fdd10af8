"""Images of equal pixels: in training and in test, twice in training, or under two labels.

Equal is meant to the last bit, of what the model would see: decoded and resized. A hash of each image decides it, which
takes 0.1 s of 70,000 small images.
"""

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from bench.dataset import Source

Group = dict[str, list[int]]  # by split, the indices of images that are equal


@lru_cache(maxsize=8)
def number_pixels(source: "Source") -> dict[str, NDArray[np.int64]]:
    """For each split a number per image, the same for equal pixels and for no others."""
    numbers: dict[bytes, int] = {}

    def number(image: NDArray[np.uint8]) -> int:
        return numbers.setdefault(sha256(np.ascontiguousarray(image).data).digest(), len(numbers))

    return {split: np.array([number(image) for image in images]) for split, images, _ in source.splits()}


def find_groups(source: "Source") -> list[Group]:
    """All images that have an equal one."""
    numbers = number_pixels(source)
    repeated = np.flatnonzero(np.bincount(np.concatenate(list(numbers.values()))) > 1)
    groups: dict[int, Group] = {int(number): {} for number in repeated}
    for split, of_split in numbers.items():
        for index in np.flatnonzero(np.isin(of_split, repeated)):
            groups[int(of_split[index])].setdefault(split, []).append(int(index))
    return list(groups.values())


def find_kept(source: "Source") -> NDArray[np.int64]:
    """Indices of the training images that drop_duplicates leaves there, sorted.

    Out goes what is in test, too, or in a validation split of the dataset's own, and what has several labels in
    training, as nothing says which is right; of other images that are equal, the first stays.
    """
    numbers = number_pixels(source)
    held_out = np.concatenate([of_split for split, of_split in numbers.items() if split != "train"])
    candidates = np.flatnonzero(~np.isin(numbers["train"], held_out))
    _, first, pixels = np.unique(numbers["train"][candidates], return_index=True, return_inverse=True)
    labels = source.train_labels[candidates]
    in_doubt = pixels[labels != labels[first][pixels]]
    return np.sort(candidates[np.delete(first, in_doubt)])
