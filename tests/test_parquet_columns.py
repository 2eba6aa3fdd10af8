"""Parquet files of other columns, labels, groups of rows and pictures than the hub's usual ones."""

import numpy as np
import pyarrow as pa
import pytest
from conftest import load_folder
from pyarrow import parquet
from test_parquet import draw, encode, load, write

from bench.dataset import all_cores
from bench.errors import UsageError


@pytest.mark.parametrize("group", [pytest.param(1, marks=pytest.mark.slow), 3, 1000])
def test_rows_are_found_whatever_the_groups_they_lie_in(group, tmp_path, monkeypatch):
    images = write(tmp_path / "train.parquet", [0, 1] * 40, draw(80), group=group)
    write(tmp_path / "test.parquet", [0, 1], images[:2])
    monkeypatch.setattr(all_cores, "_FEW", 10)  # in several processes
    monkeypatch.setattr(all_cores, "count_cores", lambda: 2)
    source = load(tmp_path)
    assert np.array_equal(source.train_images, images)
    assert np.array_equal(source.test_images, images[:2])


def test_columns_have_names_of_their_own(tmp_path):
    write(tmp_path / "train-00000-of-00001.parquet", [0, 1] * 4, names=["a", "b"], image="img", label="fine_label")
    source = load(tmp_path, "img", "fine_label")
    assert source.class_names == ["a", "b"]
    with pytest.raises(UsageError, match=r"(?s)no column image, but: img, fine_label, coarse.*dataset.image_column="):
        load(tmp_path)
    with pytest.raises(UsageError, match=r"(?s)no column label, but: img, fine_label, coarse.*dataset.label_column="):
        load(tmp_path, "img")


def test_another_column_of_pictures_is_other_data(tmp_path):
    one, other = draw(4), draw(4)
    columns = {name: pa.array([encode(each) for each in images]) for name, images in (("a", one), ("b", other))}
    table = pa.table({**columns, "label": [0, 1, 0, 1]})
    for split in ("train", "test"):
        parquet.write_table(table, tmp_path / f"{split}.parquet")
    first, second = load(tmp_path, "a"), load(tmp_path, "b")  # bytes alone, in no struct
    assert (first.train_images == one).all()
    assert (second.train_images == other).all()
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        (["dog", "cat"], None, ["cat", "dog"]),
        (["dog", "cat"], pa.dictionary(pa.int8(), pa.string()), ["cat", "dog"]),
        ([1, 2], pa.uint8(), ["1", "2"]),
        ([False, True], None, ["0", "1"]),
    ],
)
def test_labels_may_be_text_or_numbers_without_names(labels, kind, classes, tmp_path):
    for split in ("train", "test"):
        write(tmp_path / f"{split}.parquet", labels * 3, kind=kind)
    source = load(tmp_path)
    assert source.class_names == classes
    assert source.test_labels.tolist() == [sorted(labels).index(label) for label in labels * 3]


def test_without_test_files_some_of_train_are_and_that_is_said(tmp_path, capsys):
    write(tmp_path / "train-00000-of-00001-0123456789abcdef.parquet", [0, 1] * 8)  # as older ones are called
    write(tmp_path / "unsupervised-00000-of-00001.parquet", [-1] * 3)
    source = load(tmp_path)
    assert (len(source.train_labels), len(source.test_labels)) == (12, 4)
    said = capsys.readouterr().err
    assert "no test files" in said
    assert "left out, as no file of train, test or validation: unsupervised-00000-of-00001.parquet" in said


def test_pictures_are_read_by_the_rules_of_a_folders(tmp_path):
    grey, clear = np.full((10, 12), 7, np.uint8), np.zeros((10, 12, 4), np.uint8)
    for split in ("train", "test"):
        stored = [{"bytes": encode(grey, "JPEG"), "path": None}, {"bytes": encode(clear), "path": None}]
        write(tmp_path / f"{split}.parquet", [0, 1], stored=stored)
    source = load(tmp_path, image_size=8, background="#102030")
    assert source.train_images.shape == (2, 8, 8, 3)
    assert source.train_images[1, 0, 0].tolist() == [16, 32, 48]
    assert source.settings["background"] == "#102030"
    assert load(tmp_path, channels=1).train_images.shape == (2, 10, 12, 1)


def test_the_same_pictures_in_a_folder_and_in_parquet_files_are_the_same_images(split, tmp_path):
    for part in ("train", "test"):
        files = sorted((split / part).rglob("*.png"))
        stored = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
        write(tmp_path / "hub" / f"{part}.parquet", [file.parent.name for file in files], stored=stored)
    for size in (None, 8):
        ours, theirs = load(tmp_path / "hub", image_size=size), load_folder(split, image_size=size)
        assert ours.class_names == theirs.class_names
        for (_, images, labels), (_, others, their_labels) in zip(ours.splits(), theirs.splits(), strict=True):
            assert (images == others).all()
            assert (labels == their_labels).all()
