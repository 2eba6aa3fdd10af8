"""results/datasets/<data_id>.json: what a dataset holds, once for all runs on it.

Names of classes and of the rows of logits.npz, and which images are equal: that is counted once, and read from there
afterwards, by the page too, which loads no torch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.disk.files import write_atomically
from bench.disk.gone import is_file, names_in, read_if_there
from bench.record.folder import unseal

DATASETS = "datasets"
_SPLITS = {"train": "training", "val": "validation", "test": "test"}
PAIRS = (("test", "train"), ("val", "train"), ("test", "val"))


def read_data(results: Path, identifier: str) -> dict[str, Any] | None:
    """What is on record of a dataset; None where nothing is that can be read."""
    try:
        record = unseal(read_if_there(results / DATASETS / f"{identifier}.json") or b"null")
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return record if record.keys() >= {"images", "doubles", "equal_images"} else None


def copy_data(ours: Path, theirs: Path) -> None:
    """Brings the records of another folder of results into this one, where they are missing."""
    for name in names_in(theirs / DATASETS):
        if name.endswith(".json") and not name.startswith(".") and not is_file(ours / DATASETS / name):
            content = read_if_there(theirs / DATASETS / name)
            if content is not None:
                write_atomically(ours / DATASETS / name, content)


def describe_doubles(record: Mapping[str, Any], named: int = 0) -> list[str]:
    """What is to be said of a dataset's equal images, by kind, each with so many of them by name."""
    images, counts, groups = record["images"], record["doubles"], record["equal_images"]
    kinds: list[tuple[int, str, list[list[str]]]] = []
    for a, b in PAIRS:
        both = [[name_image(a, g[a][0]), name_image(b, g[b][0])] for g in groups if a in g and b in g]
        text = f"of {images.get(a, 0):,} {_SPLITS[a]} images are in {_SPLITS[b]}, too"
        kinds.append((counts[f"{a}_in_{b}"], text, both))
    repeated = [[name_image("train", i) for i in g["train"][:2]] for g in groups if len(g.get("train", [])) > 1]
    kinds.append((counts["train_repeated"], f"of {images['train']:,} training images repeat another", repeated))
    several = [name_members(group)[:2] for group in groups if len(group["labels"]) > 1]
    kinds.append((counts["several_labels"], "under several labels", several))
    return [f"{n:,} {text}{_show_some(pictures, named)}" for n, text, pictures in kinds if n]


def _show_some(pictures: Sequence[Sequence[str]], named: int) -> str:
    shown = [" = ".join(equal) for equal in pictures[:named]] + ["..."] * (len(pictures) > named)
    return f" ({', '.join(shown)})" * (named > 0)


def name_members(group: Mapping[str, Sequence[Any]]) -> list[str]:
    """The images of an entry of `equal_images`."""
    return [name_image(split, image) for split in _SPLITS for image in group.get(split, ())]


def name_image(split: str, image: int | str) -> str:
    """An image in a line: its name, or its split and index."""
    return image if isinstance(image, str) else f"{split} {image}"


def describe_dropping(record: Mapping[str, Any], dropped: Sequence[bool]) -> str:
    """What becomes of the equal images in training, `dropped` saying it of each arm; empty where there are none."""
    if not any(record["doubles"][key] for key in ("test_in_train", "val_in_train", "train_repeated")):
        return ""
    if all(dropped):
        return "training is without them"
    return f"training is with them{' in some arms' * any(dropped)}, dataset.drop_duplicates=true takes them out"
