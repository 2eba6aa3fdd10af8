"""A user's own images, a folder per class.

Two layouts: root/train/<class>/* and root/test/<class>/*, or root/<class>/*, which is split here, stratified and by a
fixed seed. How the files become pixels, and where these are kept, is in pictures.py.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from bench import UsageError
from bench.dataset import Source, stratified_order
from bench.pictures import load_pixels, make_fingerprint


def load_image_folder(
    name: str, root: str, image_size: int | None, channels: int, flips: bool, test_fraction: float
) -> Source:
    """The pictures of a folder as they were split there, or as they are split here.

    Args:
        name: the dataset's, for messages.
        root: the folder that holds train/ and test/, or one folder per class.
        image_size: pixels; the shorter side is resized to it and the middle square is cut out. None: as they are.
        channels: 1 (grey) or 3 (colour); pictures are converted.
        flips: whether augmentation mirrors them; not where that changes the class, as of digits, letters and signs.
        test_fraction: in (0, 1), stratified; only where the folder has no test/.

    Raises:
        UsageError: a folder or class that cannot serve, a damaged picture, sizes that differ, too little memory.
    """
    if channels not in (1, 3):
        raise UsageError(f"dataset.channels={channels} is not allowed.\nIt must be 1 (grey) or 3 (colour).")
    train, test, classes = _find_pictures(Path(root))
    files = [file for file, _ in train + test]
    fingerprint = make_fingerprint(Path(root), files)
    pixels = load_pixels(name, Path(root), files, fingerprint, image_size, channels)
    labels = np.array([label for _, label in train + test], dtype=np.int64)
    one, other = (slice(len(train)), slice(len(train), None)) if test else _split(labels, classes, test_fraction)
    return Source(
        pixels[one],
        labels[one],
        pixels[other],
        labels[other],
        classes=len(classes),
        flips=flips,
        fingerprint=fingerprint,
        unused={"test_fraction": f"{root} has a test folder"} if test else {},
    )


def _find_pictures(root: Path) -> tuple[list[tuple[str, int]], list[tuple[str, int]], list[str]]:
    """Files and labels of training and of test pictures (none where the folder is not split), and the classes' names.

    Files are below the root; all is sorted by name.
    """
    if not root.is_dir():
        raise UsageError(f"dataset.root={root} is not a folder.\nName the folder that holds a folder per class.")
    missing = [split for split in ("train", "test") if not (root / split).is_dir()]
    if len(missing) == 1:
        raise UsageError(f"{root} has no folder {missing[0]}.\nIt takes train and test, or folders of classes alone.")
    if missing:
        classes = _class_names(root)
        return _list_pictures(root, "", classes, classes), [], classes
    classes, tested = _class_names(root / "train"), _class_names(root / "test")
    unknown = [name for name in tested if name not in classes]
    if unknown:
        raise UsageError(
            f"{root / 'test'} has a class that train lacks: {', '.join(unknown[:5])}.\n"
            "Give it pictures in train too, or take it out of test."
        )
    return _list_pictures(root, "train", classes, classes), _list_pictures(root, "test", tested, classes), classes


def _class_names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        there = f"one class only: {names[0]}" if names else "no folder of a class"
        raise UsageError(f"{folder} has {there}.\nIt must hold a folder of pictures per class, two at least.")
    return names


def _list_pictures(root: Path, split: str, names: Sequence[str], classes: Sequence[str]) -> list[tuple[str, int]]:
    """The pictures of the classes `names`; hidden files are left out, and so is, with a note, what is no picture."""
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    pictures: list[tuple[str, int]] = []
    others: Counter[str] = Counter()
    for name in names:
        there = sorted(entry.name for entry in (root / split / name).iterdir() if not entry.name.startswith("."))
        files = [file for file in there if Path(file).suffix.lower() in endings]
        others.update(Path(file).suffix or file for file in there if Path(file).suffix.lower() not in endings)
        if not files:
            raise UsageError(
                f"class {name} is empty: {root / split / name} holds no picture that Pillow reads.\n"
                "Put pictures (JPEG, PNG, ...) right there, or remove the folder."
            )
        label, below = classes.index(name), f"{split}/{name}" if split else name
        pictures += [(f"{below}/{file}", label) for file in files]
    if others:
        left_out = "left out, as no pictures: " + ", ".join(f"{n} {what}" for what, n in others.most_common(5))
        Console(stderr=True, highlight=False).print(f"{root / split}: {left_out}", markup=False, soft_wrap=True)
    return pictures


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
