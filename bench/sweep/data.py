"""What the runs' datasets hold, counted once and put on record."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.config.identity import data_id, identity
from bench.config.settings import Run
from bench.dataset import Source, load_source, stratified_order
from bench.dataset.doubles import find_groups, find_kept
from bench.disk.files import write_atomically
from bench.record.data import DATASETS, PAIRS, describe_doubles, describe_dropping, read_data
from bench.record.folder import seal

_NAMED = 3  # of many equal images


def note_data(results: Path, runs: Iterable[Run], write: bool) -> list[str]:
    """A line for each dataset of the runs that has equal images; with `write`, what is not on record is recorded.

    Raises:
        OSError: it cannot be written.
    """
    of_data: dict[str, list[Run]] = {}
    for run in runs:
        of_data.setdefault(data_id(identity(run)), []).append(run)
    lines = []
    for identifier, [run, *others] in of_data.items():
        record = read_data(results, identifier)
        if record is None:
            record = describe_data(load_source(run.dataset))
            if write:
                write_atomically(results / DATASETS / f"{identifier}.json", seal(record))
        if found := describe_doubles(record, _NAMED):
            parts = [*found, describe_dropping(record, [r.dataset.values["drop_duplicates"] for r in (run, *others)])]
            lines.append(f"{run.dataset.name}: {'; '.join(filter(None, parts))}")
    return lines


def describe_data(source: Source) -> dict[str, Any]:
    """The record of a dataset: of its equal images the indices, or the names where they have any."""
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
        **{f"{a}_in_{b}": sum(len(g[a]) for g in groups if a in g and b in g) for a, b in PAIRS},
        "train_repeated": sum(len(group["train"]) - 1 for group in groups if "train" in group),
        "several_labels": sum(len(each) > 1 for each in labels),
    }


def _name_rows(source: Source) -> dict[str, list[str]]:
    """The names of the rows of logits.npz, where images have names.

    Where validation is carved from training, a run has the first of those, as many as its val_fraction takes; with
    drop_duplicates the first that are not dropped.
    """
    if not source.names:
        return {}
    carved = [source.names["train"][i] for i in stratified_order(source.train_labels)]
    return {"val": [*(source.names.get("val") or carved)], "test": [*source.names["test"]]}
