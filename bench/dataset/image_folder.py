"""A user's own images, a folder per class.

As they were split (train/, val/, test/), or split here, stratified and by a fixed seed. Which folders serve is in
class_folders.py; how the files become pixels, and where these are kept, in decode.py and pictures.py.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from bench.dataset import Source, stratified_order
from bench.dataset.class_folders import find_pictures
from bench.dataset.decode import Decoder
from bench.dataset.pictures import load_pixels, make_fingerprint
from bench.errors import UsageError


def load_image_folder(
    name: str,
    root: str,
    image_size: int | None,
    channels: int,
    flips: bool,
    test_fraction: float,
    background: str = "white",  # the last three have values here for files of users that were written without them
    white: float | None = None,
    max_pixels: int | None = None,
) -> Source:
    """The pictures of a folder as they were split there, or as they are split here.

    Args:
        name: the dataset's, for messages.
        root: the folder that holds train/ and test/, and perhaps val/, or one folder per class.
        image_size: pixels; the shorter side is resized to it and the middle square is cut out. None: as they are.
        channels: 1 (grey) or 3 (colour); pictures are converted.
        flips: whether augmentation mirrors them; not where that changes the class, as of digits, letters and signs.
        test_fraction: in (0, 1), stratified; only where the folder has no test/.
        background: the colour under transparent pixels, by a name of CSS or as #rrggbb.
        white: the value that is white in grey pictures of more than 8 bits. None: as their format says.
        max_pixels: larger pictures are refused. None: none are.

    Raises:
        UsageError: a folder or class that cannot serve, damaged pictures, sizes that differ, too little memory.
    """
    if channels not in (1, 3):
        raise UsageError(f"dataset.channels={channels} is not allowed.\nIt must be 1 (grey) or 3 (colour).")
    found = find_pictures(Path(root))
    pictures = found.train + found.test + found.val
    files = [file for file, _ in pictures]
    fingerprint = make_fingerprint(Path(root), files)
    colour = "#{:02x}{:02x}{:02x}".format(*ImageColor.getrgb(background))
    decoder = Decoder(image_size, channels, colour, white, max_pixels)
    pixels, used = load_pixels(name, Path(root), files, fingerprint, decoder)
    labels = np.array([label for _, label in pictures], dtype=np.int64)
    trained, tested = len(found.train), len(found.train) + len(found.test)
    train, test, val = slice(trained), slice(trained, tested), slice(tested, None)
    one, other = (train, test) if found.test else _split(labels[train], found.classes, test_fraction)
    order = np.arange(len(files))
    return Source(
        pixels[one],
        labels[one],
        pixels[other],
        labels[other],
        classes=len(found.classes),
        flips=flips,
        fingerprint=fingerprint,
        val_images=pixels[val] if found.val else None,
        val_labels=labels[val] if found.val else None,
        settings={"background": None, "white": None, "max_pixels": None, **used},
        class_names=found.classes,
        names={
            "train": [files[i] for i in order[one]],
            "test": [files[i] for i in order[other]],
            "val": [files[i] for i in order[val]],
        },
        unused={"test_fraction": f"{root} has a test folder"} if found.test else {},
    )


def _split(
    labels: NDArray[np.int64], classes: Sequence[str], test_fraction: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of training and test pictures."""
    test, train = np.split(stratified_order(labels), [round(test_fraction * len(labels))])
    if len(test) == 0:
        raise UsageError(f"dataset.test_fraction={test_fraction} leaves no picture to test on.\nRaise it.")
    everywhere, trained = (np.bincount(some, minlength=len(classes)) for some in (labels, labels[train]))
    for name, n, left in zip(classes, everywhere, trained, strict=True):
        if left == 0:
            raise UsageError(
                f"class {name} has too few pictures ({n}): the test split takes all of them.\n"
                f"Lower dataset.test_fraction={test_fraction}, or add pictures."
            )
    return train, test
