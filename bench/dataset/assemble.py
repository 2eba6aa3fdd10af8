"""The splits that data came with, made a Source.

Where none of them is for test, one is split off training, stratified and by a fixed seed.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from bench.dataset import Source
from bench.dataset.class_folders import Pictures
from bench.dataset.decode import Decoder
from bench.dataset.pictures import Encoded, load_pixels
from bench.dataset.rows import Rows
from bench.dataset.splits import split_off_test
from bench.errors import UsageError


def assemble(
    images: Mapping[str, NDArray[np.uint8] | Rows],
    labels: Mapping[str, NDArray[np.int64]],
    class_names: Sequence[str],
    flips: bool,
    test_fraction: float,
    origin: str | Path,
    names: Mapping[str, Sequence[str]] | None = None,
    settings: Mapping[str, Any] | None = None,
    fingerprint: str = "",
) -> Source:
    """The data of splits called train and, where there are such, test and val.

    Args:
        images: by split, uint8 (N, H, W, C).
        labels: by split, (N,), in [0, K).
        class_names: K of them.
        flips: whether augmentation mirrors the images.
        test_fraction: of the training images, for test, where there is no test split.
        origin: what the splits are of, for messages: a folder, a file.
        names: by split, N of images.
        settings: as Source has them.
        fingerprint: as Source has it.

    Raises:
        UsageError: a class with too few images to be split.
        ValueError: what a Source refuses.
    """
    names = dict(names or {})
    idle = {"test_fraction": f"{origin} has a test split"}
    if "test" not in images:
        train, test = split_off_test(labels["train"], class_names, test_fraction)
        images = {**images, "train": Rows(images["train"], train), "test": Rows(images["train"], test)}
        labels = {**labels, "train": labels["train"][train], "test": labels["train"][test]}
        if names:
            of_train = names["train"]
            names |= {"train": [of_train[i] for i in train], "test": [of_train[i] for i in test]}
        idle = {}
    return Source(
        images["train"],
        labels["train"],
        images["test"],
        labels["test"],
        classes=len(class_names),
        flips=flips,
        fingerprint=fingerprint,
        val_images=images.get("val"),
        val_labels=labels.get("val"),
        settings=settings or {},
        class_names=class_names,
        names=names,
        unused=idle,
    )


def assemble_pictures(
    name: str,
    found: Pictures,
    encode: Callable[[Sequence[str]], Encoded],
    decoder: Decoder,
    flips: bool,
    test_fraction: float,
    origin: str | Path,
    settings: Mapping[str, Any],
) -> Source:
    """The data of stored pictures, decoded.

    Args:
        name: the dataset's, for messages.
        found: the names and labels of the pictures of each split.
        encode: gives the pictures of such names.
        decoder: how they are read.
        flips, test_fraction, origin: as `assemble` has them.
        settings: as Source has them; those of the decoder that a picture used are added.

    Raises:
        UsageError: damaged pictures, sizes that differ, too little memory, a class with too few pictures to be split.
    """
    splits = {split: each for split in ("train", "test", "val") if (each := getattr(found, split))}
    pictures = encode([name for each in splits.values() for name, _ in each])
    fingerprint = pictures.identify()
    pixels, used = load_pixels(name, pictures, fingerprint, decoder)
    ends = np.cumsum([len(each) for each in splits.values()])
    return assemble(
        {split: pixels[end - len(each) : end] for (split, each), end in zip(splits.items(), ends, strict=True)},
        {split: np.array([label for _, label in each], dtype=np.int64) for split, each in splits.items()},
        found.classes,
        flips,
        test_fraction,
        origin,
        names={split: [name for name, _ in each] for split, each in splits.items()},
        settings={**settings, **used},
        fingerprint=fingerprint,
    )


def make_decoder(
    image_size: int | None, channels: int, background: str, white: float | None, max_pixels: int | None
) -> Decoder:
    """How pictures are read, by the settings of a dataset; `background` is a name of CSS or #rrggbb.

    Raises:
        UsageError: channels other than 1 and 3.
    """
    if channels not in (1, 3):
        raise UsageError(f"dataset.channels={channels} is not allowed.\nIt must be 1 (grey) or 3 (colour).")
    colour = "#{:02x}{:02x}{:02x}".format(*ImageColor.getrgb(background))
    return Decoder(image_size, channels, colour, white, max_pixels)
