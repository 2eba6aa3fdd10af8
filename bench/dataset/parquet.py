"""Pictures in parquet files, as the Hugging Face hub stores them: split into shards, each row a picture and its label.

A picture is its file's bytes, in a column of such or of structs that have them. Names of classes are read from the
metadata that the package datasets writes. pyarrow comes with the extra [parquet].
"""

import itertools
import json
import re
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

from bench.dataset import Source
from bench.dataset.assemble import assemble_pictures, make_decoder
from bench.dataset.class_folders import SPLITS, Pictures, name_some, say
from bench.dataset.labels import number_classes
from bench.dataset.pictures import Encoded, hash_text, make_fingerprint, raise_changed
from bench.errors import UsageError

_SHARD = re.compile(r"(?P<split>[A-Za-z]+)(-\d+-of-\d+)?(-[0-9a-f]{16})?")  # the last is of older ones


def load_parquet(
    name: str,
    root: str,
    image_column: str,
    label_column: str,
    image_size: int | None,
    channels: int,
    flips: bool,
    test_fraction: float,
    background: str,
    white: float | None,
    max_pixels: int | None,
) -> Source:
    """The pictures of a folder's parquet files.

    Args:
        name: the dataset's, for messages.
        root: the folder that holds train-00000-of-00001.parquet and the like, itself or in its folder data; or folders
            train, test and validation of files with any names, as the hub converts data sets.
        image_column: bytes of picture files, or structs that have them as `bytes`.
        label_column: integers or text.
        image_size, channels, flips, background, white, max_pixels: as in `load_image_folder`.
        test_fraction: in (0, 1), stratified; only where there are no test files.

    Raises:
        UsageError: pyarrow is not installed; no such files or columns, damaged pictures, sizes that differ, too little
            memory, labels that are not one class for each picture.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "dataset parquet needs the package pyarrow.\nInstall it: pip install 'regbench[parquet]'"
        ) from error

    decoder = make_decoder(image_size, channels, background, white, max_pixels)
    folder, shards = _find_shards(Path(root))
    files = [*itertools.chain(*shards.values())]
    fingerprint = _identify(folder, files, image_column)
    identify = partial(_identify_again, name, folder, files, image_column, fingerprint)
    rows = {shard: _read_labels(folder / shard, image_column, label_column) for shard in files}
    of_splits = {split: [label for shard in each for label in rows[shard]] for split, each in shards.items()}
    _check_kinds(folder, rows)
    labels, classes = number_classes(root, of_splits, _read_names(folder, files, label_column))
    names = {split: [f"{s}:{row}" for s in each for row in range(len(rows[s]))] for split, each in shards.items()}
    found = Pictures(classes, **{split: [*zip(names[split], labels[split].tolist(), strict=True)] for split in shards})
    encode = partial(Encoded, open=partial(_open_row, folder, image_column, fingerprint), identify=identify)
    settings: dict[str, Any] = {"background": None, "white": None, "max_pixels": None}
    if found.test:
        settings["test_fraction"] = None
    else:
        say(folder, "no test files: dataset.test_fraction of the pictures in train are the test split")
    return assemble_pictures(name, found, encode, decoder, flips, test_fraction, root, settings)


def _find_shards(root: Path) -> tuple[Path, dict[str, list[str]]]:
    """The folder of the files, and those of each split, in order; train, test, val."""
    if not root.is_dir():
        raise UsageError(f"dataset.root={root} is not a folder.\nName the folder that holds train-....parquet.")
    folder, files = next(((each, files) for each, files in _list_files(root) if files), (root, []))
    if not files:
        below = next((file.parent for file in sorted(root.rglob("*.parquet"))), None)
        below = below.parent if below and below.name.lower() in SPLITS else below
        hint = f"There are some below: dataset.root={below}" if below else "Name the folder that holds some."
        raise UsageError(f"{root} holds no .parquet file, nor does a folder data or train in it.\n{hint}")
    found: dict[str, list[str]] = {}
    others = []
    for file in files:
        above, _, name = file.rpartition("/")
        named = _SHARD.fullmatch(above or name.removesuffix(".parquet"))
        split = named and SPLITS.get(named["split"].lower())
        found.setdefault(split, []).append(file) if split else others.append(file)
    if others:
        say(folder, f"left out, as no file of train, test or validation: {name_some(others)}")
    if "train" not in found:
        raise UsageError(
            f"{folder} holds no file of train.\n"
            "It takes train-00000-of-00001.parquet and the like, or folders train, test and validation of files."
        )
    for split, files in found.items():
        _check_complete(folder, split, files)
    return folder, {split: found[split] for split in ("train", "test", "val") if split in found}


def _list_files(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders, and the files there: those in the folder itself, then those in folders that are called as splits."""
    for pattern in ("*.parquet", "*/*.parquet"):
        for folder in (root, root / "data"):
            files = [file.relative_to(folder) for file in sorted(folder.glob(pattern))]
            yield folder, [file.as_posix() for file in files if str(file.parent).lower() in (".", *SPLITS)]


def _check_complete(folder: Path, split: str, files: Sequence[str]) -> None:
    """Raises UsageError where some of a split's files are not there, as after a download that was cut."""
    numbers = [(int(n[1]), int(n[2])) for file in files if (n := re.search(r"-(\d+)-of-(\d+)", file))]
    if numbers and numbers != [(i, len(files)) for i in range(numbers[0][1])]:
        raise UsageError(
            f"{folder} has {len(files)} files of {split}, which are not those of 0 to {numbers[0][1] - 1}: "
            f"{name_some(files)}.\nDownload the rest, and leave only the files of one set there."
        )


def _read_labels(path: Path, image_column: str, label_column: str) -> list[Any]:
    """One for each row, as they are there."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    with _as_damage(path), ParquetFile(path) as file:
        schema = file.schema_arrow
        for key, column in (("image_column", image_column), ("label_column", label_column)):
            if column not in schema.names:
                raise UsageError(
                    f"{path} has no column {column}, but: {', '.join(schema.names)}.\nName it: dataset.{key}=COLUMN"
                )
            if schema.names.count(column) > 1:
                raise UsageError(
                    f"{path} has several columns {column}: {', '.join(schema.names)}.\n"
                    f"Leave one of them there, or name another: dataset.{key}=COLUMN"
                )
        if file.metadata.num_rows == 0:  # its columns may have no type
            return []
        stored, kind = (schema.field(column).type for column in (image_column, label_column))
        if pa.types.is_struct(stored) and stored.get_field_index("bytes") >= 0:
            stored = stored.field("bytes").type
        if not (pa.types.is_binary(stored) or pa.types.is_large_binary(stored)):
            raise UsageError(
                f"{path}: the column {image_column} holds {stored}, not the bytes of pictures.\n"
                f"There are: {', '.join(schema.names)}. Name another: dataset.image_column=COLUMN"
            )
        if pa.types.is_nested(kind):
            raise UsageError(
                f"{path}: the column {label_column} holds {kind}, which may be several labels for each picture.\n"
                f"Training takes one, a number or text. There are: {', '.join(schema.names)}."
            )
        labels: list[Any] = file.read(columns=[label_column]).column(0).to_pylist()
    return labels


def _check_kinds(folder: Path, rows: Mapping[str, Sequence[Any]]) -> None:
    """Raises UsageError where some shards have labels that are numbers and others text: together all became text."""
    some = {shard: label for shard, labels in rows.items() for label in labels[:1] if label is not None}
    kinds = {type(label).__name__: shard for shard, label in reversed(some.items())}
    if "str" in kinds and len(kinds) > 1:
        (one, first), (other, second) = [*kinds.items()][:2]
        raise UsageError(
            f"{folder}: the labels are not of one kind: {first} holds {one}, {second} {other}.\n"
            "Leave only the files of one set there, or save all labels as one kind."
        )


def _read_names(folder: Path, shards: Sequence[str], column: str) -> list[str]:
    """Of the classes, where the metadata have any; UsageError where two shards name them differently."""
    from pyarrow.parquet import read_schema

    found: dict[str, list[str]] = {}
    for shard in shards:
        metadata = json.loads((read_schema(folder / shard).metadata or {}).get(b"huggingface", b"{}"))
        if names := metadata.get("info", {}).get("features", {}).get(column, {}).get("names"):
            found[shard] = [*names]
    first, names = next(iter(found.items()), ("", []))
    for shard, others in found.items():
        if others != names:
            pairs = enumerate(itertools.zip_longest(names, others, fillvalue="no class"))
            number, (one, other) = next(each for each in pairs if each[1][0] != each[1][1])
            raise UsageError(
                f"{folder}: {first} and {shard} name the classes differently: {number} is {one}, and {other}.\n"
                "Leave only the files of one set there, or write their labels by one list of names."
            )
    return names


def _identify(folder: Path, shards: Sequence[str], column: str) -> str:
    return hash_text(f"{make_fingerprint(folder, shards)} {column}")


def _identify_again(name: str, folder: Path, shards: Sequence[str], column: str, before: str) -> str:
    """Raises UsageError where it is no longer as before, when the labels were yet to be read."""
    if (fingerprint := _identify(folder, shards, column)) != before:
        raise_changed(name)
    return fingerprint


def _open_row(folder: Path, column: str, fingerprint: str, name: str) -> BytesIO:
    """The picture of a row, named `shard:row`."""
    shard, _, number = name.rpartition(":")
    starts = _find_groups(folder / shard, fingerprint)
    group = bisect(starts, int(number)) - 1
    stored = _read_group(folder / shard, column, group, fingerprint)[int(number) - starts[group]].as_py()
    content = stored["bytes"] if isinstance(stored, dict) else stored
    if content is None:
        raise ValueError("no bytes are there, perhaps the path of a file only")
    return BytesIO(content)


# Rows are read one after the other, each by its group, of which a process keeps the last. The fingerprint is a key, so
# that a file that has changed is read anew.


@lru_cache(maxsize=1)
def _find_groups(path: Path, fingerprint: str) -> list[int]:
    """The first row of each group."""
    from pyarrow.parquet import read_metadata

    metadata = read_metadata(path)
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return [*itertools.accumulate(rows[:-1], initial=0)]


@lru_cache(maxsize=1)
def _read_group(path: Path, column: str, group: int, fingerprint: str) -> Any:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        return file.read_row_group(group, columns=[column], use_threads=False).column(0)


@contextmanager
def _as_damage(path: Path) -> Iterator[None]:
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:150]
        raise UsageError(
            f"{path} cannot be read: {reason}\n"
            "Download it anew; where it is a few lines of text, it is but a pointer of git lfs."
        ) from error
