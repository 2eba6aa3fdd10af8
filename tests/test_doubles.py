"""Images of equal pixels: found in every pair of splits, and taken out of training."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.dataset import Choice, Source, make_splits, split_indices, split_source
from bench.dataset.fashion_mnist import load_fashion_mnist
from bench.errors import UsageError
from bench.sweep.data import describe_data

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def make_source(train=60, test=25, val=0, values=2, seed=0):
    """Images of four pixels with so many values each: some are equal by chance, some of these under two labels."""

    random = np.random.default_rng(seed)

    def draw(n):
        return random.integers(0, values, (n, 2, 2, 1), dtype=np.uint8), random.integers(0, 3, n)

    own = dict(zip(("val_images", "val_labels"), draw(val), strict=True)) if val else {}
    return Source(*draw(train), *draw(test), classes=3, flips=False, **own)


def choice(**values):
    options = {"imbalance": 1, "label_noise": 0, "noisy_validation": False, "augment": "none", "resident": None}
    return Choice("x", {"train_size": None, "val_fraction": 0.2, "split_seed": None, **options, **values})


def as_bytes(images):
    return [image.tobytes() for image in images]


def find_by_sorting(source):
    """A second way, without a hash: the pixels as text, sorted, and neighbours compared."""
    images = [
        (pixels, split, index)
        for split, of_split, _ in source.splits()
        for index, pixels in enumerate(as_bytes(of_split))
    ]
    images.sort()
    groups = defaultdict(set)
    for one, other in pairwise(images):
        if one[0] == other[0]:
            groups[one[0]] |= {one[1:], other[1:]}
    return {frozenset(group) for group in groups.values()}


def found(source):
    return {
        frozenset((split, i) for split in ("train", "val", "test") for i in group.get(split, ()))
        for group in describe_data(source)["equal_images"]
    }


# --- finding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("val", [0, 20])
@pytest.mark.parametrize("values", [1, 2, 3, 200])
def test_equal_images_of_all_splits_are_those_that_sorting_finds(values, val):
    source = make_source(values=values, val=val)
    assert found(source) == find_by_sorting(source)
    counts = describe_data(source)["doubles"]
    train = set(as_bytes(source.train_images))
    assert counts["test_in_train"] == sum(image in train for image in as_bytes(source.test_images))
    assert counts["train_repeated"] == len(source.train_images) - len(train)
    if val:
        assert counts["val_in_train"] == sum(image in train for image in as_bytes(source.val_images))
        own = set(as_bytes(source.val_images))
        assert counts["test_in_val"] == sum(image in own for image in as_bytes(source.test_images))
    labels = defaultdict(set)
    for _, images, of_split in source.splits():
        for image, label in zip(as_bytes(images), of_split, strict=True):
            labels[image].add(int(label))
    assert counts["several_labels"] == sum(len(each) > 1 for each in labels.values())


def test_images_that_lie_reversed_in_memory_are_compared_as_they_are_seen():
    source = make_source(values=2)
    reversed_ = replace(source, train_images=source.train_images[:, ::-1], test_images=source.test_images[:, ::-1])
    assert found(reversed_) == found(source)
    assert found(replace(source, train_images=source.train_images[:, ::-1])) != found(source)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_fashion_mnist_has_no_equal_images_since_2017_and_those_that_are_put_back_are_found(tmp_path):
    """As first published it had 10 test images in training and 43 training images twice; on the day that they were
    reported (zalandoresearch/fashion-mnist, issue 44) they were replaced."""
    source = load_fashion_mnist(str(tmp_path))
    rows = np.concatenate([source.train_images, source.test_images]).reshape(70_000, -1)
    assert len(np.unique(rows.view("V784"))) == 70_000
    assert found(source) == set()
    leaks = {3763: 7243, 4944: 7781, **{6000 + i: 100 * i for i in range(1, 9)}}
    repeats = {20_000 + i: 40_000 + 7 * i for i in range(43)}
    images = source.train_images.copy()
    images[list(leaks)] = source.test_images[list(leaks.values())]
    images[list(repeats.values())] = images[list(repeats)]
    planted = replace(source, train_images=images)
    expected = {frozenset({("train", a), ("test", b)}) for a, b in leaks.items()}
    expected |= {frozenset({("train", a), ("train", b)}) for a, b in repeats.items()}
    assert found(planted) == expected == find_by_sorting(planted)
    counts = describe_data(planted)["doubles"]
    assert (counts["test_in_train"], counts["train_repeated"]) == (10, 43)
    train, val = split_source(choice(val_fraction=0, drop_duplicates=True), planted)
    in_doubt = {i for pair in repeats.items() for i in pair if len(set(source.train_labels[list(pair)])) > 1}
    assert set(range(60_000)) - set(train) == {*leaks, *repeats.values(), *in_doubt}
    assert len(val) == 0


# --- dropping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("val", [0, 8])
@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_dropping_leaves_no_image_in_training_twice_or_elsewhere_too_and_test_as_it_is(fraction, val):
    for seed in range(20):
        source = make_source(train=80, test=6, val=val, values=3, seed=seed)
        data = make_splits(choice(val_fraction=fraction, drop_duplicates=True), source, torch.device("cpu"))
        train, validation = as_bytes(data.train.images.numpy()), as_bytes(data.val.images.numpy())
        test = as_bytes(source.test_images)
        assert as_bytes(data.test.images.numpy()) == test
        assert len(train) == len(set(train))
        assert not set(train) & {*validation, *test}
        if val:
            assert validation == as_bytes(source.val_images)
        else:
            assert len(validation) == len(set(validation)) == round(fraction * (len(validation) + len(train)))
            assert not set(validation) & set(test)
        labels = defaultdict(list)
        for image, label in zip(as_bytes(source.train_images), source.train_labels, strict=True):
            labels[image].append(int(label))
        elsewhere = {*test, *(validation if val else [])}
        kept = {image for image, its in labels.items() if len(set(its)) == 1 and image not in elsewhere}
        assert kept == {*train, *([] if val else validation)}  # and nothing else goes


def test_of_equal_training_images_the_first_stays_and_of_those_with_two_labels_none():
    images = np.array([5, 1, 5, 2, 2, 3, 5], dtype=np.uint8).reshape(-1, 1, 1, 1)
    test = np.array([[[[3]]]], dtype=np.uint8)
    source = Source(images, np.array([0, 1, 0, 0, 1, 1, 0]), test, np.array([0]), classes=2, flips=False)
    train, _ = split_source(choice(val_fraction=0, drop_duplicates=True), source)
    assert sorted(train) == [0, 1]
    assert describe_data(source)["dropped"] == [2, 3, 4, 5, 6]


def test_without_dropping_the_splits_are_as_ever_and_with_it_in_the_same_order():
    source = make_source(train=200, values=4)
    train, val = split_source(choice(drop_duplicates=False), source)
    before = split_indices(choice(), source.train_labels)
    assert (train.tolist(), val.tolist()) == tuple(each.tolist() for each in before)
    fewer, its_val = split_source(choice(drop_duplicates=True), source)
    whole, kept = [*val, *train], [*its_val, *fewer]
    assert len(kept) < len(whole)
    assert kept == [index for index in whole if index in set(kept)]
    small, same_val = split_source(choice(drop_duplicates=True, train_size=9), source)
    assert (small == fewer[:9]).all()
    assert (same_val == its_val).all()


def test_a_train_size_that_dropping_does_not_leave_is_refused_and_so_is_dropping_all():
    source = make_source(train=60, values=2)
    everything = replace(source, test_images=source.train_images, test_labels=source.train_labels)
    with pytest.raises(UsageError, match=r"drop_duplicates=true leaves no image of x.*\n.*leave drop_duplicates out"):
        split_source(choice(drop_duplicates=True), everything)
    with pytest.raises(UsageError, match=r"takes \d+ and drop_duplicates \d+\.\nAsk for at most"):
        split_source(choice(drop_duplicates=True, train_size=48), make_source(train=60, test=1, values=4))


def test_names_that_are_not_one_per_image_are_refused():
    with pytest.raises(ValueError, match="names must have one for each of the 25 test images"):
        replace(make_source(), names={"train": ["x"] * 60, "test": ["x"]})
