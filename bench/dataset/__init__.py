"""Datasets: one file per dataset, each a function that loads the original training and test split; here they are split.

With drop_duplicates, training images that are there twice or in test, too, are left out first (doubles.py). Validation
is carved from the full training split, then `imbalance` makes a long tail of the rest, and `train_size` takes a subset
of that (splits.py): all stratified, all by a fixed seed, or by split_seed, so every arm sees the same examples, and a
smaller subset lies within each larger one. Last, `label_noise` makes labels wrong (label_noise.py): of the images that
are trained on, and with noisy_validation of those that validate.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.config.own_code import make
from bench.config.settings import PROTOCOL, Choice
from bench.dataset.doubles import find_kept
from bench.dataset.label_noise import add_label_noise
from bench.dataset.mapped import Images, MappedImages
from bench.dataset.residency import is_resident
from bench.dataset.rows import Rows
from bench.dataset.splits import SPLIT_SEED, Indices, split_indices
from bench.dataset.splits import stratified_order as stratified_order
from bench.machine.memory import release
from bench.rng import global_stream

_NAMED = 5  # of many classes that a split lacks


@dataclass(frozen=True, eq=False)  # one that is loaded is itself alone: its arrays are not to be compared
class Source:
    """A dataset as it was published.

    images are uint8 (N, H, W, C), an array, which may be a file mapped, or Rows of one; labels are integers (N,) in
    [0, classes). Lists and views become arrays of their own. `flips` says whether a horizontal flip keeps the class;
    `fingerprint` identifies the content wherever it lies, and is a hash of it where it is left out. A validation split
    that was published, too, is taken as it is, and else carved from training. `settings` holds what stands in a run's
    identity for settings that count with some data only: None, which stays out, where they do not. `class_names` are in
    the order of the labels, or empty where classes have no names; `names`, by split, are those of the images, such as
    their files', where they have any. `unused` says, by key, why another setting does nothing with these data.

    Raises:
        ValueError: arrays of another kind or shape, labels out of their range, or names of another number.
    """

    train_images: NDArray[np.uint8] | Rows
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8] | Rows
    test_labels: NDArray[np.int64]
    classes: int
    flips: bool
    fingerprint: str = ""
    val_images: NDArray[np.uint8] | Rows | None = None
    val_labels: NDArray[np.int64] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    class_names: Sequence[str] = ()
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ValueError(f"classes must be at least 2, got {self.classes}")
        if isinstance(self.class_names, np.ndarray):
            object.__setattr__(self, "class_names", self.class_names.tolist())
        if (self.val_images is None) != (self.val_labels is None):
            raise ValueError("a validation split has both val_images and val_labels, got one of them")
        for name in ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _as_array(getattr(self, name)))
        for split, images, labels in self.splits():
            if images.dtype != np.uint8 or images.ndim != 4:
                raise ValueError(f"{split} images must be uint8 (N, H, W, C), got {images.dtype} {images.shape}")
            _, height, width, channels = images.shape
            if channels > 4 and (height <= 4 or width == channels != height):
                raise ValueError(f"{split} images must be (N, H, W, C), and {images.shape} looks like (N, C, H, W)")
            if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1] or len(labels) == 0:
                raise ValueError(
                    f"{split} labels must be integers, one for each of {len(images)} images and one at least, "
                    f"got {labels.dtype} {labels.shape}"
                )
            if labels.min() < 0 or labels.max() >= self.classes:
                raise ValueError(f"{split} labels must be in [0, {self.classes}), got {labels.min()} to {labels.max()}")
            if images.shape[1:] != self.train_images.shape[1:]:
                raise ValueError(
                    f"images of all splits must have one shape, got {self.train_images.shape[1:]} for training and "
                    f"{images.shape[1:]} for {split}"
                )
            if self.names and len(self.names.get(split, ())) != len(labels):
                raise ValueError(f"names must have one for each of the {len(labels)} {split} images")
        names = self.class_names
        texts = not isinstance(names, str) and all(isinstance(name, str) for name in names)
        if not texts or len(names) not in (0, self.classes):
            raise ValueError(f"class_names must be a list of {self.classes} texts, one per class, got {names!r:.100}")

    def hash_content(self) -> str:
        """Of images and labels."""
        content = sha256()
        for _, images, labels in self.splits():
            for some in Rows(images).in_parts():
                content.update(some.data)
            content.update(labels.astype(np.int64).data)
        return content.hexdigest()

    def splits(self) -> list[tuple[str, NDArray[np.uint8] | Rows, NDArray[np.int64]]]:
        """The name, images and labels of each."""
        splits = [("train", self.train_images, self.train_labels), ("test", self.test_images, self.test_labels)]
        if self.val_images is not None and self.val_labels is not None:
            splits.append(("val", self.val_images, self.val_labels))
        return splits


@dataclass(frozen=True)
class Split:
    """images: uint8 (N, H, W, C); labels: int64 (N,); both on the run's device.

    Images that are too many for memory come there when they are indexed or split. `true_labels` are those before label
    noise, of training images that have it.
    """

    images: Images
    labels: Tensor
    true_labels: Tensor | None = None

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
    class_names: Sequence[str] = ()  # empty where classes have none
    class_counts: Sequence[int] = ()  # training images of each class, where there is a long tail

    @property
    def shape(self) -> torch.Size:
        """Of the images as a model sees them: (N, C, H, W)."""
        n, height, width, channels = self.train.images.shape
        return torch.Size((n, channels, height, width))

    def describe(self) -> dict[str, Any]:
        """What a run's record holds of them."""
        told: dict[str, Any] = {"train_size": len(self.train), "class_names": [*self.class_names]}
        told |= {"classes": self.classes, "image_shape": list(self.shape[1:])}
        told["normalisation"] = {"mean": self.mean.tolist(), "std": self.std.tolist()}
        if self.class_counts:
            told["class_counts"] = [*self.class_counts]
        if self.train.true_labels is not None:
            told["wrong_labels"] = int((self.train.labels != self.train.true_labels).sum())
        return told


def _as_array(values: Any) -> NDArray[Any] | Rows:
    """An array that torch takes: no view backwards, in the machine's byte order; Rows as they are."""
    if isinstance(values, Rows):
        return values
    array = np.ascontiguousarray(values)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def load_source(choice: Choice) -> Source:
    """The dataset's original splits, kept for the process's other runs.

    Raises:
        UsageError: files that are missing or damaged. A user's own loader may raise anything.
    """
    values = {key: value for key, value in choice.values.items() if key not in PROTOCOL}
    return _load(json.dumps(values, sort_keys=True))


@cache
def _load(values: str) -> Source:
    with global_stream(torch.device("cpu"), SPLIT_SEED, "load"):
        source: Source = make(json.loads(values), path="dataset")
    if not isinstance(source, Source):
        raise ValueError(f"the loader gives {type(source).__name__} instead of a bench.dataset.Source")
    return replace(source, fingerprint=source.fingerprint or source.hash_content())


def make_splits(choice: Choice, source: Source, device: torch.device) -> Data:
    """The splits of a checked dataset choice on `device`, kept for the process's next run."""
    key = (source, choice.name, *(choice.values[key] for key in PROTOCOL if key != "augment"), device)
    if key not in _kept:
        if _kept:
            _kept.clear()  # first: large ones would not fit twice
            release()  # so that the memory that they had counts as free
        _kept[key] = _make_splits(choice, source, device)
    return _kept[key]


_kept: dict[tuple[Any, ...], Data] = {}


def _make_splits(choice: Choice, source: Source, device: torch.device) -> Data:
    train, val = split_source(choice, source)
    test_images, train_images = Rows(source.test_images), Rows(source.train_images, train)
    if source.val_images is None or source.val_labels is None:
        val_images, of_val = Rows(source.train_images, val), source.train_labels
    else:
        val_images, of_val = Rows(source.val_images), source.val_labels
        val = np.arange(len(of_val))
    add_noise = partial(add_label_noise, classes=source.classes, seed=choice.values["split_seed"] or SPLIT_SEED)
    share, true_labels = choice.values["label_noise"], source.train_labels[train]
    n = len(train_images) + len(val_images) + len(test_images)
    resident = is_resident(choice, (n, *train_images.shape[1:]), device)

    def move(rows: Rows, *labels: NDArray[np.int64]) -> Split:
        parts = (torch.from_numpy(each.astype(np.int64)).to(device) for each in labels)
        if not resident:
            return Split(MappedImages(rows, device), *parts)
        images = np.require(rows.load(), requirements="W")  # a copy where the source is read-only
        return Split(torch.from_numpy(images).to(device), *parts)

    mean, std = _moments(train_images.sorted())
    tailed = choice.values["imbalance"] < 1
    return Data(
        train=move(train_images, add_noise(source.train_labels, train, share), *([true_labels] if share else [])),
        val=move(val_images, add_noise(of_val, val, share * choice.values["noisy_validation"])),
        test=move(test_images, source.test_labels),
        classes=source.classes,
        flips=source.flips,
        mean=torch.tensor(mean, dtype=torch.float32, device=device),
        std=torch.tensor(np.where(std == 0, 1, std), dtype=torch.float32, device=device),
        class_names=source.class_names,
        class_counts=np.bincount(true_labels, minlength=source.classes).tolist() if tailed else (),
    )


def _moments(images: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation per channel of (N, H, W, C), exact, by counting values: no copy of the images as floats."""
    counts = np.zeros((images.shape[-1], 256), dtype=np.int64)
    for some in images.in_parts():  # NumPy counts in a copy of eight times the size
        counts += [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(some, -1, 0)]
    values, total = np.arange(256), counts.sum(axis=1)
    mean = counts @ values / total
    return mean, np.sqrt((counts * (values - mean[:, None]) ** 2).sum(axis=1) / total)


def split_source(choice: Choice, source: Source) -> tuple[Indices, Indices]:
    """As split_indices; where the source has a validation split of its own, training gives none to it."""
    if source.val_labels is not None:
        choice = replace(choice, values={**choice.values, "val_fraction": 0})
    return split_indices(choice, source.train_labels, find_kept(source) if choice.values["drop_duplicates"] else None)


def find_gaps(choice: Choice, source: Source) -> list[str]:
    """A line for each split that has no image of some class, in words for the user."""
    train, val = split_source(choice, source)
    labels = {
        "train": source.train_labels[train],
        "val": source.train_labels[val] if source.val_labels is None else source.val_labels,
        "test": source.test_labels,
    }
    names = source.class_names or [str(label) for label in range(source.classes)]
    there = {split: set(np.unique(each).tolist()) for split, each in labels.items() if len(each)}
    gaps = {split: [name for k, name in enumerate(names) if k not in known] for split, known in there.items()}
    return [
        f"{choice.name}: the {split} split has no image of {len(missing)} of the {source.classes} classes: "
        + ", ".join(missing[:_NAMED])
        + (", ..." if len(missing) > _NAMED else "")
        for split, missing in gaps.items()
        if len(missing)
    ]
