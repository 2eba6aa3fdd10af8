"""results/datasets/<data_id>.json: what a dataset holds, once for all runs on it.

Names of classes and of the rows of logits.npz, and which images are equal: that is counted once, and read from there
afterwards, by the page too, which loads no torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.files import write_atomically
from bench.gone import is_file, names_in, read_if_there
from bench.record import data_id, identity, seal, unseal
from bench.settings import Run

if TYPE_CHECKING:
    from bench.dataset import Source

FOLDER = "datasets"
_NAMED = 3  # of many equal images
_SPLITS = {"train": "training", "val": "validation", "test": "test"}
_PAIRS = (("test", "train"), ("val", "train"), ("test", "val"))


def note_data(results: Path, runs: Iterable[Run], write: bool) -> list[str]:
    """A line for each dataset of the runs that has equal images; with `write`, what is not on record is recorded.

    Raises:
        OSError: it cannot be written.
    """
    from bench.dataset import load_source  # here because the page, which needs the rest, does without torch

    of_data: dict[str, list[Run]] = {}
    for run in runs:
        of_data.setdefault(data_id(identity(run)), []).append(run)
    lines = []
    for identifier, [run, *others] in of_data.items():
        record = read_data(results, identifier)
        if record is None:
            record = describe_data(load_source(run.dataset))
            if write:
                write_atomically(results / FOLDER / f"{identifier}.json", seal(record))
        if found := describe_doubles(record, _NAMED):
            told = [*found, describe_dropping(record, [r.dataset.values["drop_duplicates"] for r in (run, *others)])]
            lines.append(f"{run.dataset.name}: {'; '.join(filter(None, told))}")
    return lines


def read_data(results: Path, identifier: str) -> dict[str, Any] | None:
    """What is on record of a dataset; None where nothing is that can be read."""
    try:
        record = unseal(read_if_there(results / FOLDER / f"{identifier}.json") or b"null")
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return record if record.keys() >= {"images", "doubles", "equal_images"} else None


def copy_data(ours: Path, theirs: Path) -> None:
    """Brings the records of another folder of results into this one, where they are missing."""
    for name in names_in(theirs / FOLDER):
        if name.endswith(".json") and not name.startswith(".") and not is_file(ours / FOLDER / name):
            content = read_if_there(theirs / FOLDER / name)
            if content is not None:
                write_atomically(ours / FOLDER / name, content)


def describe_data(source: "Source") -> dict[str, Any]:
    """The record of a dataset: of its equal images the indices, or the names where they have any."""
    from bench.dataset.doubles import find_groups, find_kept

    groups = find_groups(source)
    labels = {split: labels for split, _, labels in source.splits()}
    of_groups = [sorted({int(labels[split][i]) for split in group for i in group[split]}) for group in groups]
    dropped = set(range(len(source.train_labels))).difference(find_kept(source).tolist())

    def name(split: str, indices: Iterable[int]) -> list[Any]:
        return [source.names[split][i] for i in indices] if source.names else [*indices]

    return {
        "fingerprint": source.fingerprint,
        "class_names": [*source.class_names],
        "images": {split: len(each) for split, each in labels.items()},
        "rows": _name_rows(source),
        "doubles": _count(groups, of_groups),
        "dropped": name("train", sorted(dropped)),  # by drop_duplicates
        "equal_images": [
            {**{split: name(split, images) for split, images in group.items()}, "labels": each}
            for group, each in zip(groups, of_groups, strict=True)
        ],
    }


def _count(groups: Sequence[Mapping[str, Sequence[int]]], labels: Sequence[Sequence[int]]) -> dict[str, int]:
    """Images of a split that are in another, too; training images that equal an earlier one; pictures of several
    labels."""
    return {
        **{f"{a}_in_{b}": sum(len(g[a]) for g in groups if a in g and b in g) for a, b in _PAIRS},
        "train_repeated": sum(len(group["train"]) - 1 for group in groups if "train" in group),
        "several_labels": sum(len(each) > 1 for each in labels),
    }


def _name_rows(source: "Source") -> dict[str, list[str]]:
    """The names of the rows of logits.npz, where images have names.

    Where validation is carved from training, a run has the first of those, as many as its val_fraction takes; with
    drop_duplicates the first that are not dropped.
    """
    from bench.dataset import stratified_order

    if not source.names:
        return {}
    carved = [source.names["train"][i] for i in stratified_order(source.train_labels)]
    return {"val": [*(source.names.get("val") or carved)], "test": [*source.names["test"]]}


def describe_doubles(record: Mapping[str, Any], named: int = 0) -> list[str]:
    """What is to be said of a dataset's equal images, by kind, each with so many of them by name."""
    images, counts, groups = record["images"], record["doubles"], record["equal_images"]
    kinds: list[tuple[int, str, list[list[str]]]] = []
    for a, b in _PAIRS:
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
