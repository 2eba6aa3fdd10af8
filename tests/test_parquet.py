"""Pictures in parquet files: as the package datasets writes them, and what cannot serve."""

import io
import json
import sys

import numpy as np
import pandas
import pyarrow as pa
import pytest
from conftest import compose
from PIL import Image
from pyarrow import parquet

from bench.config.identity import identity
from bench.dataset import _load, pictures
from bench.dataset import parquet as module
from bench.dataset.parquet import load_parquet
from bench.errors import UsageError
from bench.sweep.plan import Command, make_plan
from bench.training.run import train_run

RANDOM = np.random.default_rng(0)
NAMES = ["cat", "dog", "emu"]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encode(pixels, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def draw(n, size=(10, 12)):
    return RANDOM.integers(0, 256, (n, *size, 3), dtype=np.uint8)


def write(path, labels, images=None, names=(), image="image", label="label", group=3, stored=None, kind=None):
    """A shard whose rows lie in groups of three; its images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = draw(len(labels)) if images is None else images
    rows = [{"bytes": encode(each), "path": f"{i}.png"} for i, each in enumerate(images)] if stored is None else stored
    columns = {image: pa.array(rows, STRUCT if isinstance(rows[0], dict) else None), label: pa.array(labels, kind)}
    table = pa.table({**columns, "coarse": pa.array([0] * len(labels))})
    features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}} if names else {}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else {}
    parquet.write_table(table.replace_schema_metadata(metadata), path, row_group_size=group)
    return images


def load(root, image_column="image", label_column="label", image_size=None, channels=3, **values):
    values = {"flips": True, "test_fraction": 0.25, "background": "white", "white": None, "max_pixels": None} | values
    return load_parquet("x", str(root), image_column, label_column, image_size, channels, **values)


@pytest.fixture
def hub(tmp_path):
    """Two shards for training, and one each for validation and test."""
    data = tmp_path / "hub" / "data"
    write(data / "train-00000-of-00002.parquet", [0, 1, 2, 0, 1, 2, 0, 1], names=NAMES)
    write(data / "train-00001-of-00002.parquet", [2, 0, 1, 2], names=NAMES)
    write(data / "validation-00000-of-00001.parquet", [0, 1, 2], names=NAMES)
    write(data / "test-00000-of-00001.parquet", [0, 1, 2, 2, 1, 0], names=NAMES)
    return tmp_path / "hub"


def read(path):
    """The images and labels of a shard, by pandas and Pillow alone."""
    frame = pandas.read_parquet(path)
    images = [np.asarray(Image.open(io.BytesIO(each["bytes"])).convert("RGB")) for each in frame["image"]]
    return np.stack(images), frame["label"].to_numpy()


def test_all_shards_of_a_split_are_read_in_order(hub):
    source = load(hub)
    files = {"train": ["train-00000-of-00002", "train-00001-of-00002"], "val": ["validation-00000-of-00001"]}
    files["test"] = ["test-00000-of-00001"]
    for split, images, labels in source.splits():
        theirs = [read(hub / "data" / f"{name}.parquet") for name in files[split]]
        assert (images == np.concatenate([each for each, _ in theirs])).all()
        assert (labels == np.concatenate([each for _, each in theirs])).all()
    assert source.class_names == NAMES
    assert source.names["train"][-1] == "train-00001-of-00002.parquet:3"


def test_the_files_may_lie_in_the_folder_itself_and_are_the_same_data_there(hub, capsys):
    before = load(hub)
    capsys.readouterr()
    after = load(hub / "data")
    assert after.fingerprint == before.fingerprint
    assert "decoded" not in capsys.readouterr().err  # they are taken from the cache
    assert np.array_equal(after.train_images, before.train_images)


# --- what cannot serve -----------------------------------------------------------------------------------------------


def test_a_folder_for_each_split_is_read_as_the_hub_converts_data_sets(hub, tmp_path):
    before = load(hub)
    for name, file in (("train", "0000"), ("train", "0001"), ("validation", "0000"), ("test", "0000")):
        stored = next((hub / "data").glob(f"{name}-0{file}-of-*"))
        (tmp_path / "default" / name).mkdir(parents=True, exist_ok=True)
        stored.rename(tmp_path / "default" / name / f"{file}.parquet")
    source = load(tmp_path / "default")
    assert source.hash_content() == before.hash_content()
    assert source.names["val"] == [f"validation/0000.parquet:{row}" for row in range(3)]
    with pytest.raises(UsageError, match=r"some below: dataset.root=.*/default$"):
        load(tmp_path)
    refuses(tmp_path / "default" / "train", "no file of train", "folders train, test and validation")


def refuses(root, *parts, **values):
    with pytest.raises(UsageError) as caught:
        load(root, **values)
    message = str(caught.value)
    assert len(message.splitlines()) <= 3
    assert all(part in message for part in parts), message


def test_folders_that_hold_no_such_files_say_where_some_are(tmp_path):
    refuses(tmp_path / "nowhere", "nowhere is not a folder")
    (tmp_path / "some" / "data").mkdir(parents=True)
    refuses(tmp_path / "some", "some holds no .parquet file")
    write(tmp_path / "some" / "plain_text" / "test-00000-of-00001.parquet", [0, 1])
    refuses(tmp_path / "some", f"dataset.root={tmp_path / 'some' / 'plain_text'}")
    refuses(tmp_path / "some" / "plain_text", "no file of train")
    write(tmp_path / "cut" / "train-00001-of-00003.parquet", [0, 1])
    refuses(tmp_path / "cut", "1 files of train", "0 to 2", "Download the rest")


def test_files_that_are_damaged_or_only_pointers_are_named(tmp_path):
    path = tmp_path / "train-00000-of-00001.parquet"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    refuses(tmp_path, path.name, "cannot be read", "git lfs")
    write(path, [0, 1] * 4)
    path.write_bytes(path.read_bytes()[:-50])
    refuses(tmp_path, path.name, "cannot be read")


def test_pictures_that_cannot_be_read_are_named_by_their_rows(tmp_path):
    stored = [{"bytes": encode(each), "path": "x"} for each in draw(8)]
    stored[2]["bytes"] = b"nothing"
    write(tmp_path / "train.parquet", [0, 1] * 4, stored=stored)
    refuses(tmp_path, "train.parquet:2 cannot be read: no picture that Pillow knows")
    stored[5]["bytes"] = None
    write(tmp_path / "train.parquet", [0, 1] * 4, stored=stored)
    refuses(tmp_path, "2 of 8 pictures", "train.parquet:2 (", "train.parquet:5 (no bytes are there")
    write(tmp_path / "train.parquet", [0, 1], stored=["a.png", "b.png"])
    refuses(tmp_path, "the column image holds string, not the bytes of pictures", "image, label, coarse")
    write(tmp_path / "train.parquet", [0, 1])
    write(tmp_path / "test.parquet", [0, 1], draw(2, (20, 20)))
    refuses(tmp_path, "differ in size", "train.parquet:0 is 12x10", "test.parquet:0 20x20", "dataset.image_size=")


def test_labels_that_cannot_serve_are_refused(tmp_path):
    write(tmp_path / "train.parquet", [[0, 1], [1], [0]])
    refuses(tmp_path, "the column label holds list", "several labels", "coarse")
    write(tmp_path / "train.parquet", [0, None, 1])
    refuses(tmp_path, "train split has images without a label")
    write(tmp_path / "train.parquet", [0.5, 1.5])
    refuses(tmp_path, "labels that are float64")
    write(tmp_path / "train.parquet", [0, 1, 3], names=NAMES)
    refuses(tmp_path, "a label 3, but the names of 3 classes only")
    write(tmp_path / "train.parquet", [0, 1, 2], names=NAMES)
    write(tmp_path / "test.parquet", [-1, -1], names=NAMES)
    refuses(tmp_path, "all labels of the test split are below 0", "not published", "dataset.test_fraction")


@pytest.mark.parametrize("other", ["train-00001-of-00002", "test-00000-of-00001", "validation-00000-of-00001"])
def test_names_of_classes_are_one_list_in_all_files(other, hub):
    path = hub / "data" / f"{other}.parquet"
    write(path, [0, 1, 2], names=["dog", "cat", "emu"])
    refuses(hub, f"train-00000-of-00002.parquet and {other}.parquet name the classes differently: 0 is cat, and dog")
    write(path, [0, 1, 2])  # of which nothing says that they are others
    assert load(hub).class_names == NAMES


@pytest.mark.parametrize("other", ["train-00001-of-00002", "test-00000-of-00001"])
def test_numbers_and_text_are_not_labels_of_one_set(other, hub):
    write(hub / "data" / f"{other}.parquet", ["0", "1", "2"])
    refuses(hub, "train-00000-of-00002.parquet holds int", f"{other}.parquet", "str")


def test_tables_without_rows_and_with_two_columns_of_a_name_are_refused_as_such(tmp_path):
    write(tmp_path / "train.parquet", [0, 1] * 4)
    parquet.write_table(pa.table({"image": pa.array([]), "label": pa.array([])}), tmp_path / "test.parquet")
    refuses(tmp_path, "the test split has no images", "leave it out")
    (tmp_path / "test.parquet").unlink()
    table = parquet.read_table(tmp_path / "train.parquet")
    parquet.write_table(table.rename_columns(["image", "label", "label"]), tmp_path / "train.parquet")
    refuses(tmp_path, "several columns label", "dataset.label_column=COLUMN")


def test_without_pyarrow_it_says_how_to_install_it(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refuses(hub, "pip install 'regbench[parquet]'")


# --- identity --------------------------------------------------------------------------------------------------------


def plan(root, tmp_path, *more):
    _load.cache_clear()  # as in another process
    choices = ("dataset=parquet", f"dataset.root={root}", "model=mlp", "train.device=cpu", "train.batch_size=4")
    (planned,) = make_plan(Command("adhoc", compose(*choices, *more), tmp_path / "results"))
    return planned


def test_a_run_trains_under_the_folders_name_and_knows_it_by_its_content(hub, tmp_path):
    planned = plan(hub, tmp_path, "train.epochs=1")
    assert planned.run.dataset.name == "parquet/hub"
    assert not {"dataset.test_fraction", "dataset.white", "dataset.root"} & identity(planned.run).keys()
    result = train_run(planned.run, tmp_path / "run", lambda *_: None)
    assert result["status"] == "done", result["message"]
    hub.rename(tmp_path / "other")
    more = (
        "train.epochs=1",
        "dataset.name=hub",
        "dataset.test_fraction=0.5",
        "dataset.white=9",
        "dataset.max_pixels=1000",
    )
    assert plan(tmp_path / "other", tmp_path, *more).run_id == planned.run_id
    assert plan(tmp_path / "other", tmp_path, *more, "dataset.image_size=8").run_id != planned.run_id


def test_a_file_that_changes_is_read_anew(hub):
    before = load(hub)
    path = hub / "data" / "test-00000-of-00001.parquet"
    images = write(path, [0, 1, 2, 2, 1, 0], names=NAMES)
    after = load(hub)
    assert after.fingerprint != before.fingerprint
    assert (after.test_images == images).all()
    assert np.array_equal(after.train_images, before.train_images)


def test_files_that_change_while_they_are_read_are_not_cached(hub, tmp_path, monkeypatch):
    decode = pictures._decode

    def decode_and_change(*arguments):
        write(hub / "data" / "test-00000-of-00001.parquet", [0, 1, 2, 2, 1, 0], names=NAMES)
        return decode(*arguments)

    monkeypatch.setattr(pictures, "_decode", decode_and_change)
    with pytest.raises(UsageError, match="changed while it was read"):
        load(hub)
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_labels_are_those_of_the_files_that_are_identified(hub, monkeypatch):
    """As between the reading of the labels and that of the pictures, whose number stays the same."""
    read_labels = module._read_labels
    monkeypatch.setattr(pictures, "_decode", lambda *_: pytest.fail("decoded"))

    def read_and_change(path, *columns):
        labels = read_labels(path, *columns)
        if path.name.startswith("test"):
            write(path, [2, 1, 0, 0, 1, 2], names=NAMES)
        return labels

    monkeypatch.setattr(module, "_read_labels", read_and_change)
    refuses(hub, "changed while it was read")
