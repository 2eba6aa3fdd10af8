from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from conftest import train

from bench.config.identity import arm_id, identity
from bench.config.settings import apply_settings
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
from bench.dataset.digits import load_digits
from bench.errors import UsageError

CPU = torch.device("cpu")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def choice(**values):
    protocol = {
        "train_size": None,
        "val_fraction": 0.2,
        "drop_duplicates": False,
        "split_seed": None,
        "imbalance": 1,
        "label_noise": 0,
        "noisy_validation": False,
        "augment": "none",
        "resident": None,
    }
    values = {**protocol, **values}
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


def test_synthetic_takes_any_size_channels_and_classes(plan):
    overrides = ("dataset.image_size=12", "dataset.channels=5", "dataset.classes=3")
    (planned,) = plan(*overrides)
    data = make_splits(planned.run.dataset, load_source(planned.run.dataset), CPU)
    assert data.shape[1:] == (5, 12, 12)
    assert data.classes == 3


def test_each_seed_may_draw_its_own_split_which_is_that_of_all_its_arms(plan):
    """Intervals over seeds of one split leave out what another training set would have given."""
    sizes = ("dataset.train_size=32", "dataset.val_fraction=0.25")
    asked = ("regularizer=none,sam", "seed=0,1,2", *sizes)

    def splits(*more):
        drawn = {}
        for planned in plan(*asked, *more):
            data = make_splits(apply_settings(planned.run).dataset, load_source(planned.run.dataset), CPU)
            of_seed = drawn.setdefault(planned.run.seed, [])
            of_seed.append([data.train.images.numpy().tobytes(), data.val.images.numpy().tobytes()])
            tests.add(data.test.images.numpy().tobytes())
        assert all(one == other for one, other in drawn.values())  # of none and of SAM
        return [arms[0] for arms in drawn.values()]

    tests = set()
    fixed, own, number = splits(), splits("dataset.split_seed=seed"), splits("dataset.split_seed=2")
    for part in range(2):
        assert len({each[part] for each in fixed}) == len({each[part] for each in number}) == 1
        assert len({each[part] for each in own}) == 3
    assert (own[0], own[2]) == (fixed[0], number[0])  # the fixed draw is that of the number 0
    assert len(tests) == 1
    arms = {arm_id(planned.run) for planned in plan(*asked, "dataset.split_seed=seed")}
    assert len(arms) == 2  # seeds of an arm are averaged
    assert arms.isdisjoint({arm_id(planned.run) for planned in plan(*asked)})


def test_a_split_seed_that_is_not_set_moves_no_identity(plan):
    (planned,) = plan()
    assert "dataset.split_seed" not in identity(planned.run)
    assert identity(plan("dataset.split_seed=seed")[0].run)["dataset.split_seed"] == "seed"


@pytest.mark.parametrize("value", ["-1", "sead", "1.5", "true"])
def test_a_split_seed_is_a_number_or_the_word(value, plan):
    with pytest.raises(UsageError, match="an integer of at least 0, or seed, or null"):
        plan(f"dataset.split_seed={value}")
