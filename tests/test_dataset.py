import gzip
import hashlib
import pickle
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from conftest import train
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from bench import UsageError
from bench.dataset import (
    Choice,
    Source,
    find_gaps,
    load_source,
    make_splits,
    split_indices,
    stratified_order,
)
from bench.dataset.batches import Batches
from bench.dataset.cifar10 import load_cifar
from bench.dataset.digits import load_digits
from bench.dataset.fashion_mnist import load_fashion_mnist
from bench.dataset.originals import Originals, load_originals

CPU = torch.device("cpu")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def choice(**values):
    values = {"train_size": None, "val_fraction": 0.2, "drop_duplicates": False, "augment": "none", **values}
    return Choice("digits", {"_target_": "bench.dataset.digits.load_digits", **values})


# --- splits ----------------------------------------------------------------------------------------------------------


def test_a_larger_train_size_holds_a_smaller_one_and_val_stays_apart():
    labels = load_digits().train_labels
    small, val = split_indices(choice(train_size=50), labels)
    large, same_val = split_indices(choice(train_size=400), labels)
    everything, _ = split_indices(choice(), labels)
    assert set(small) < set(large) < set(everything)
    assert (val == same_val).all()
    assert set(val) | set(everything) == set(range(len(labels)))
    assert len(val) + len(everything) == len(labels)


def test_every_stretch_is_stratified_to_within_an_example():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    ordered = labels[stratified_order(labels)]
    for stretch in (ordered[:100], ordered[100:300], ordered[:777]):
        shares = np.bincount(stretch, minlength=3) - len(stretch) * np.array([0.6, 0.3, 0.1])
        assert np.abs(shares).max() <= 1.5


def test_digits_are_those_that_scikit_learn_loads():
    ours, original = load_digits(), sklearn.datasets.load_digits()
    pairs = zip((*ours.train_images, *ours.test_images), (*ours.train_labels, *ours.test_labels), strict=True)
    originals = zip(original.images.astype(np.uint8), original.target, strict=True)
    assert sorted((p.tobytes(), int(k)) for p, k in pairs) == sorted((p.tobytes(), int(k)) for p, k in originals)


def test_digits_has_1000_stratified_test_images_apart_from_the_797():
    source = load_digits()
    assert source.test_images.shape == (1000, 8, 8, 1)
    assert len(source.train_labels) == 797
    assert np.bincount(source.test_labels).min() >= 95
    assert (load_digits().test_images == source.test_images).all()


def test_too_large_a_train_size_is_an_error_that_says_what_there_is():
    with pytest.raises(UsageError, match="at most 638"):
        split_indices(choice(train_size=700), load_digits().train_labels)


def test_normalisation_is_by_the_training_images_own_mean_and_deviation():
    data = make_splits(choice(train_size=100), load_source(choice(train_size=100)), CPU)
    images = torch.cat([images for images, _ in Batches(data, 10, "none", seed=0).epoch(0)])
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_a_zero_deviation_divides_by_1():
    source = load_digits()
    blank = np.zeros_like(source.train_images)
    data = make_splits(choice(), source.__class__(**{**vars(source), "train_images": blank}), CPU)
    assert data.std.tolist() == [1.0]


def test_splits_are_made_once_for_a_processs_runs_and_training_leaves_them_alone(tiny):
    run = tiny("dataset.augment=standard", "regularizer=[mixup,sam]")
    data = make_splits(run.dataset, load_source(run.dataset), CPU)
    before = [split.images.clone() for split in (data.train, data.val, data.test)]
    train(run)
    assert make_splits(run.dataset, load_source(run.dataset), CPU) is data
    assert all(torch.equal(a, b.images) for a, b in zip(before, (data.train, data.val, data.test), strict=True))
    other = tiny("dataset.val_fraction=0.5")
    assert len(make_splits(other.dataset, load_source(other.dataset), CPU).val) == 40


def make_source(**values):
    images, labels = np.zeros((6, 4, 4, 1), np.uint8), np.array([0, 1, 0, 1, 0, 1])
    return Source(images, labels, images, labels, classes=2, flips=True, **values)


def test_a_validation_split_of_the_source_is_taken_as_it_is_and_none_is_carved():
    source = make_source(val_images=np.full((3, 4, 4, 1), 7, np.uint8), val_labels=np.array([1, 1, 0]))
    data = make_splits(choice(train_size=4), source, CPU)
    assert (len(data.train), data.val.labels.tolist()) == (4, [1, 1, 0])
    assert (data.val.images == 7).all()
    assert len(make_splits(choice(val_fraction=0.9), source, CPU).train) == 6
    assert source.hash_content() != make_source().hash_content()


def test_a_validation_split_is_checked_as_the_others_are():
    images, labels = np.zeros((3, 4, 4, 1), np.uint8), np.array([0, 1, 1])
    for values, message in (
        ({"val_images": images}, "both val_images and val_labels"),
        ({"val_images": images, "val_labels": labels[:2]}, "val labels must be integers, one for each of 3"),
        ({"val_images": images, "val_labels": labels + 1}, r"val labels must be in \[0, 2\)"),
        ({"val_images": images[:, 1:], "val_labels": labels}, r"\(3, 4, 1\) for val"),
    ):
        with pytest.raises(ValueError, match=message):
            make_source(**values)


def test_class_names_may_be_an_array_and_one_class_is_none_to_tell_apart():
    """As np.unique gives them."""
    source = make_source(class_names=np.array(["a", "b"]))
    assert source.class_names == ["a", "b"]
    assert find_gaps(choice(), source) == find_gaps(choice(), make_source(class_names=["a", "b"]))
    with pytest.raises(ValueError, match="classes must be at least 2, got 1"):
        replace(make_source(), classes=1)


def test_splits_that_lack_a_class_are_found():
    assert find_gaps(choice(), make_source()) == ["digits: the val split has no image of 1 of the 2 classes: 0"]
    val = {"val_images": np.zeros((3, 4, 4, 1), np.uint8), "val_labels": np.array([1, 1, 1])}
    (line,) = find_gaps(choice(), make_source(**val))
    assert "the val split has no image of 1 of the 2 classes: 0" in line
    assert "of the 2 classes: cat" in find_gaps(choice(), make_source(class_names=["cat", "dog"]))[0]
    assert find_gaps(choice(val_fraction=0), make_source()) == []
    (line,) = find_gaps(choice(val_fraction=0, train_size=1), make_source())
    assert "the train split" in line


@pytest.mark.parametrize("names", [["a", "b"], "0123456789", [*"012345678", 9]])
def test_class_names_that_are_not_one_text_per_class_are_refused(names):
    with pytest.raises(ValueError, match="class_names must be a list of 10 texts"):
        replace(load_digits(), class_names=names)


# --- batches ---------------------------------------------------------------------------------------------------------


# --- files -----------------------------------------------------------------------------------------------------------


def write_cifar(folder, cls, monkeypatch):
    """Ten images in the published format, with torchvision's tables of checksums made to fit."""
    inner = folder / cls.base_folder
    inner.mkdir(parents=True)
    key = "fine_labels" if cls is CIFAR100 else "labels"

    def write(name, content):
        (inner / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((inner / name).read_bytes()).hexdigest()

    for table in ("train_list", "test_list"):
        rows = []
        for number, (name, _) in enumerate(getattr(cls, table)):
            images = np.full((10, 3072), number, np.uint8)
            images[:, :1024] += 100  # red
            rows.append([name, write(name, {"data": images, key: list(range(10))})])
        monkeypatch.setattr(cls, table, rows)
    names = [f"class {k}" for k in range(10)]
    md5 = write(cls.meta["filename"], {cls.meta["key"]: names})
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5})
    with tarfile.open(folder / cls.filename, "w:gz") as archive:
        archive.add(inner, cls.base_folder)
    monkeypatch.setattr(cls, "tgz_md5", hashlib.md5((folder / cls.filename).read_bytes()).hexdigest())


@pytest.mark.parametrize("cls", [CIFAR10, CIFAR100])
@pytest.mark.parametrize("form", ["archive", "unpacked", "inner folder"])
def test_cifar_is_read_from_each_form_and_the_folder_is_left_alone(cls, form, tmp_path, monkeypatch):
    write_cifar(tmp_path, cls, monkeypatch)
    if form == "archive":
        shutil.rmtree(tmp_path / cls.base_folder)
    else:
        (tmp_path / cls.filename).unlink()
    before = sorted(tmp_path.rglob("*"))
    root = tmp_path / cls.base_folder if form == "inner folder" else tmp_path
    source = load_cifar("cifar", cls, str(root))
    assert source.train_images.shape == (10 * len(cls.train_list), 32, 32, 3)
    assert source.test_images[0, 0, 0].tolist() == [100, 0, 0]
    assert source.classes == 10
    assert source.class_names == [f"class {k}" for k in range(10)]
    assert source.fingerprint == cls.tgz_md5
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_file_is_named(tmp_path, monkeypatch):
    write_cifar(tmp_path, CIFAR10, monkeypatch)
    (tmp_path / CIFAR10.filename).unlink()
    (tmp_path / CIFAR10.base_folder / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(UsageError, match="data_batch_3 is damaged"):
        load_cifar("cifar10", CIFAR10, str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"no gzip at all", gzip.compress(b"other content"), gzip.compress(b"x" * 999)[:20]],
    # gzip writes the time into its header, and xdist's processes must agree on every test's name
    ids=["no gzip", "other content", "cut short"],
)
def test_a_damaged_gz_is_named(content, tmp_path):
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.gz is damaged"):
        load_originals("fake", None, [Originals("", {"a.gz": "0" * 32})], str(tmp_path))


def test_missing_files_without_a_network_say_what_goes_where(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", unreachable)
    with pytest.raises(UsageError) as caught:
        load_cifar("cifar10", CIFAR10, str(tmp_path))
    message = str(caught.value)
    assert len(message.splitlines()) == 3
    assert "cifar-10-python.tar.gz" in message
    assert str(tmp_path) in message
    assert "dataset.root" in message


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_fashion_mnist_is_found_by_itself_and_read_as_torchvision_reads_it(tmp_path):
    source = load_fashion_mnist(str(tmp_path))
    assert source.train_images.shape == (60_000, 28, 28, 1)
    assert np.bincount(source.train_labels).tolist() == [6_000] * 10
    assert np.bincount(source.test_labels).tolist() == [1_000] * 10
    assert source.class_names == FashionMNIST.classes
    # the mean and deviation that is given for it everywhere
    assert source.train_images.mean() / 255 == pytest.approx(0.2860, abs=1e-4)
    assert source.train_images.std() / 255 == pytest.approx(0.3530, abs=1e-4)
    assert not list(tmp_path.iterdir())


def test_synthetic_takes_any_size_channels_and_classes(plan):
    overrides = ("dataset.image_size=12", "dataset.channels=5", "dataset.classes=3")
    (planned,) = plan(*overrides)
    data = make_splits(planned.run.dataset, load_source(planned.run.dataset), CPU)
    assert data.shape[1:] == (5, 12, 12)
    assert data.classes == 3
