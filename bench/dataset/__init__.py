"""Datasets: one file per dataset, each a function that loads the original training and test split; here they are split.

Validation is carved from the full training split, then `train_size` takes a subset of the rest: both stratified, both
by a fixed seed, so every run of every arm sees the same examples, and a smaller subset lies within each larger one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench import UsageError
from bench.rng import stream
from bench.settings import Choice, make

_SPLIT_SEED = 0
_PROTOCOL = ("train_size", "val_fraction", "augment")  # keys of every dataset, used here and not by its loader


@dataclass(frozen=True, eq=False)  # one that is loaded is itself alone: its arrays are not to be compared
class Source:
    """A dataset as it was published.

    images are uint8 (N, H, W, C), labels integers (N,) in [0, classes). `flips` says whether a horizontal flip keeps
    the class; `fingerprint` identifies the content wherever it lies, and is a hash of it where it is left out. `unused`
    says, by key, why a setting of the dataset does nothing with these data.

    Raises:
        ValueError: arrays of another kind or shape, or labels out of their range.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: int
    flips: bool
    fingerprint: str = ""
    unused: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split, images, labels in self._splits():
            if images.dtype != np.uint8 or images.ndim != 4:
                raise ValueError(f"{split} images must be uint8 (N, H, W, C), got {images.dtype} {images.shape}")
            if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1] or len(labels) == 0:
                raise ValueError(
                    f"{split} labels must be integers, one for each of {len(images)} images and one at least, "
                    f"got {labels.dtype} {labels.shape}"
                )
            if labels.min() < 0 or labels.max() >= self.classes:
                raise ValueError(f"{split} labels must be in [0, {self.classes}), got {labels.min()} to {labels.max()}")
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise ValueError(
                f"images of both splits must have one shape, got {self.train_images.shape[1:]} for training and "
                f"{self.test_images.shape[1:]} for test"
            )

    def hash_content(self) -> str:
        """Of images and labels."""
        content = sha256()
        for _, images, labels in self._splits():
            content.update(np.ascontiguousarray(images).data)
            content.update(labels.astype(np.int64).data)
        return content.hexdigest()

    def _splits(self) -> list[tuple[str, NDArray[np.uint8], NDArray[np.int64]]]:
        return [("train", self.train_images, self.train_labels), ("test", self.test_images, self.test_labels)]


@dataclass(frozen=True)
class Split:
    """images: uint8 (N, H, W, C); labels: int64 (N,); both on the run's device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """The three splits on the device, and the training images' own mean and deviation per channel."""

    train: Split
    val: Split
    test: Split
    classes: int
    flips: bool
    mean: Tensor
    std: Tensor

    @property
    def shape(self) -> torch.Size:
        """Of the images as a model sees them: (N, C, H, W)."""
        n, height, width, channels = self.train.images.shape
        return torch.Size((n, channels, height, width))


def load_source(choice: Choice) -> Source:
    """The dataset's original splits, kept for the process's other runs.

    Raises:
        UsageError: files that are missing or damaged. A user's own loader may raise anything.
    """
    values = {key: value for key, value in choice.values.items() if key not in _PROTOCOL}
    return _load(json.dumps(values, sort_keys=True))


@cache
def _load(values: str) -> Source:
    source: Source = make(json.loads(values))
    return replace(source, fingerprint=source.fingerprint or source.hash_content())


def make_splits(choice: Choice, source: Source, device: torch.device) -> Data:
    """The splits of a checked dataset choice on `device`, kept for the process's next run."""
    key = (source, choice.name, choice.values["train_size"], choice.values["val_fraction"], device)
    if key not in _kept:
        _kept.clear()  # first: large ones would not fit twice
        _kept[key] = _make_splits(choice, source, device)
    return _kept[key]


_kept: dict[tuple[Any, ...], Data] = {}


def _make_splits(choice: Choice, source: Source, device: torch.device) -> Data:
    train, val = split_indices(choice, source.train_labels)

    def move(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Split:
        images = np.require(images, requirements="W")  # a copy where the source is a file mapped read-only
        return Split(torch.from_numpy(images).to(device), torch.from_numpy(labels.astype(np.int64)).to(device))

    train_images = source.train_images[train]
    mean, std = _moments(train_images)
    return Data(
        train=move(train_images, source.train_labels[train]),
        val=move(source.train_images[val], source.train_labels[val]),
        test=move(source.test_images, source.test_labels),
        classes=source.classes,
        flips=source.flips,
        mean=torch.tensor(mean, dtype=torch.float32, device=device),
        std=torch.tensor(np.where(std == 0, 1, std), dtype=torch.float32, device=device),
    )


def _moments(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation per channel of (N, H, W, C), exact, by counting values: no copy of the images as floats."""
    counts = np.zeros((images.shape[-1], 256), dtype=np.int64)
    for some in np.array_split(images, len(images) // 512 + 1):  # NumPy counts in a copy of eight times the size
        counts += [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(some, -1, 0)]
    values, total = np.arange(256), counts.sum(axis=1)
    mean = counts @ values / total
    return mean, np.sqrt((counts * (values - mean[:, None]) ** 2).sum(axis=1) / total)


def split_indices(choice: Choice, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the training and of the validation images in the full training split.

    Raises:
        UsageError: fewer images than train_size asks for.
    """
    order = stratified_order(labels)
    val, rest = np.split(order, [round(choice.values["val_fraction"] * len(labels))])
    train_size = choice.values["train_size"] or len(rest)
    if train_size > len(rest):
        raise UsageError(
            f"dataset.train_size={train_size} is more than dataset {choice.name} has: "
            f"{len(labels)} training images, of which validation takes {len(val)}.\n"
            f"Ask for at most {len(rest)}, or lower dataset.val_fraction."
        )
    return rest[:train_size], val


def stratified_order(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """A fixed random order of which every stretch holds each class in proportion, to within an example or so."""
    shuffled = stream(_SPLIT_SEED, "split").permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    by_position: NDArray[np.int64] = shuffled[np.argsort(position[shuffled], kind="stable")]
    return by_position
