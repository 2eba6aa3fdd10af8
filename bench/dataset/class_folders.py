"""Which pictures of a folder are of which split and class.

A folder that holds a train folder of class folders is split; its val and test folders may be called as people call
them. Any other holds the class folders themselves, of which one may be called train. Two names of one class that differ
in their Unicode form alone, as a Mac and other systems unpack an archive, are one class. What is left out is said.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unicodedata import normalize

from PIL import Image
from rich.console import Console

from bench.errors import UsageError

_NAMED = 5  # of many folders
SPLITS = {  # as people call them
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Pictures:
    """Files below the root and their labels, per split; a split that the folder does not have is empty."""

    classes: list[str]
    train: list[tuple[str, int]]
    test: list[tuple[str, int]] = field(default_factory=list)
    val: list[tuple[str, int]] = field(default_factory=list)


def find_pictures(root: Path) -> Pictures:
    """The pictures of a folder, sorted by name; all in `train` where it is not split.

    Raises:
        UsageError: no folder, or none of classes; a split or a class that cannot serve.
    """
    if not root.is_dir():
        raise UsageError(f"dataset.root={root} is not a folder.\nName the folder that holds a folder per class.")
    splits = _find_splits(root)
    if not splits:
        folders = _find_classes(root)
        return Pictures(list(folders), _list_pictures(root, "", folders, list(folders)))
    if "train" not in splits:
        raise UsageError(
            f"{root} has a folder {' and '.join(splits.values())}, but no folder train.\n"
            "It takes train, test and val, of which train must be there, or folders of classes alone."
        )
    found = {split: _find_classes(root / folder) for split, folder in splits.items()}
    classes = list(found["train"])
    for split, folders in found.items():
        if unknown := [name for name in folders if name not in classes]:
            raise UsageError(
                f"{root / splits[split]} has a class that train lacks: {', '.join(unknown[:_NAMED])}.\n"
                f"Give it pictures in train too, or take it out of {splits[split]}."
            )
    if "test" not in splits:
        say(root, "no folder test: dataset.test_fraction of the pictures in train are the test split")
    pictures = {split: _list_pictures(root, splits[split], folders, classes) for split, folders in found.items()}
    return Pictures(classes, **pictures)


def _find_splits(root: Path) -> dict[str, str]:
    """The folder of each split that there is; none where the root holds folders of classes."""
    folders = _folders(root)
    called: dict[str, list[str]] = {}
    for name in folders:
        if split := SPLITS.get(name.lower().removesuffix("set").rstrip("_- ")):
            called.setdefault(split, []).append(name)
    named = {name: split for split, names in called.items() for name in names}
    others = [name for name in folders if name not in named]
    if others and not any(_holds_classes(root / name, split) for name, split in named.items()):
        return {}
    for split, names in called.items():
        if len(names) > 1:
            raise UsageError(f"{root} has several folders for {split}: {', '.join(names)}.\nLeave one of them there.")
    if called and others:
        say(root, f"left out, beside {', '.join(sorted(named))}: {name_some(others)}")
    return {split: called[split][0] for split in ("train", "test", "val") if split in called}


def _holds_classes(folder: Path, split: str) -> bool:
    """Whether it holds class folders and is no class; with pictures beside them, the folder of train alone is none."""
    folders = _folders(folder)
    if not _files(folder):
        return bool(folders)
    return split == "train" and any(_files(folder / name) for name in folders)


def _find_classes(folder: Path) -> dict[str, list[str]]:
    """The folders of each class, whose name may be there in two Unicode forms; in the order of the folders' names."""
    classes: dict[str, list[str]] = {}
    for name in _folders(folder):
        classes.setdefault(normalize("NFC", name), []).append(name)
    if len(classes) < 2:
        there = f"one class only: {next(iter(classes))}" if classes else "no folder of a class"
        raise UsageError(f"{folder} has {there}.\nIt must hold a folder of pictures per class, two at least.")
    if beside := len(_files(folder)):
        say(folder, f"left out, beside the folders of classes: {beside} pictures")
    return classes


def _list_pictures(
    root: Path, split: str, folders: Mapping[str, Sequence[str]], classes: Sequence[str]
) -> list[tuple[str, int]]:
    """The pictures of the classes; hidden files are left out, and so is, with a note, what is no picture."""
    pictures: list[tuple[str, int]] = []
    others: Counter[str] = Counter()
    for name, places in folders.items():
        before = len(pictures)
        for place in places:
            below = f"{split}/{place}" if split else place
            there = _entries(root / below)
            pictures += [(f"{below}/{entry.name}", classes.index(name)) for entry in there if _is_picture(entry)]
            others.update(_kind(entry) for entry in there if not _is_picture(entry))
        if len(pictures) == before:
            raise UsageError(
                f"class {name} is empty: {root / split / places[0]} holds no picture that Pillow reads.\n"
                "Put pictures (JPEG, PNG, ...) right there, or remove the folder."
            )
    if others:
        say(root / split, "left out, as no pictures: " + ", ".join(f"{n} {what}" for what, n in others.most_common(5)))
    return pictures


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, hidden entries left out, sorted by name."""
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if entry.is_dir()]


def _files(folder: Path) -> list[str]:
    """The pictures right in a folder."""
    return [entry.name for entry in _entries(folder) if _is_picture(entry)]


def _is_picture(entry: os.DirEntry[str]) -> bool:
    return Path(entry.name).suffix.lower() in _endings() and not entry.is_dir()


@cache
def _endings() -> frozenset[str]:
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN)


def _kind(entry: os.DirEntry[str]) -> str:
    return "folder" if entry.is_dir() else Path(entry.name).suffix or entry.name


def name_some(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def say(place: str | Path, what: str) -> None:
    """Prints a line on what was found in a folder or file."""
    Console(stderr=True, highlight=False).print(f"{place}: {what}", markup=False, soft_wrap=True)
