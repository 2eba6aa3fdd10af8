"""Label noise and a long tail: of training images alone, and the same in every arm."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY

from bench.cli import run as app
from bench.config.identity import identity
from bench.config.settings import apply_settings
from bench.dataset import load_source, make_splits
from bench.dataset.label_noise import add_label_noise
from bench.dataset.splits import count_long_tail
from bench.errors import UsageError
from bench.sweep.unused import find_unused

CPU = torch.device("cpu")
LARGE = ("dataset.train_images=2000", "dataset.classes=10", "dataset.val_fraction=0.25")


@pytest.fixture
def split(plan):
    """A function: overrides -> the data of the command's one run."""

    def split(*overrides):
        (planned,) = plan(*LARGE, *overrides)
        run = apply_settings(planned.run)
        return make_splits(run.dataset, load_source(run.dataset), CPU)

    return split


def counts(data):
    return np.bincount(data.train.labels, minlength=data.classes).tolist()


def content(split):
    return sorted(zip((image.tobytes() for image in split.images.numpy()), split.labels.tolist(), strict=True))


# --- label noise -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_so_many_training_labels_are_wrong_and_no_other(share, split):
    plain, noisy = split(), split(f"dataset.label_noise={share}")
    assert plain.train.true_labels is None
    assert torch.equal(noisy.train.images, plain.train.images)
    assert torch.equal(noisy.train.true_labels, plain.train.labels)
    assert int((noisy.train.labels != plain.train.labels).sum()) == round(share * 1500)
    for name in ("val", "test"):
        assert content(getattr(noisy, name)) == content(getattr(plain, name))


def test_what_is_wrong_at_a_share_is_as_wrong_at_each_larger_one(split):
    few, many = split("dataset.label_noise=0.2").train, split("dataset.label_noise=0.7").train
    wrong = few.labels != few.true_labels
    assert torch.equal(few.labels[wrong], many.labels[wrong])


def test_every_other_class_is_as_likely_and_the_true_one_is_not():
    labels = np.arange(40_000) % 4
    given = add_label_noise(labels, np.arange(len(labels)), 0.75, 4, seed=1)
    table = np.zeros((4, 4))
    np.add.at(table, (labels, given), 1)
    off = table[~np.eye(4, dtype=bool)]
    assert off.sum() == 30_000
    assert np.abs(off - 2_500).max() < 5 * np.sqrt(2_500)


def test_no_noise_leaves_all_labels_and_what_it_is_given_stays_as_it_is():
    labels, chosen = np.arange(50) % 5, np.arange(10, 40)
    assert (add_label_noise(labels, chosen, 0, 5, seed=0) == labels[chosen]).all()
    add_label_noise(labels, chosen, 0.9, 5, seed=0)
    assert (labels == np.arange(50) % 5).all()


def test_seeds_and_arms_share_the_wrong_labels_and_each_split_has_its_own(plan):
    asked = (*LARGE, "dataset.label_noise=0.3", "seed=0,1", "regularizer=none,[mixup,sam]")

    def drawn(*more):
        runs = [apply_settings(planned.run) for planned in plan(*asked, *more)]
        assert len(runs) == 4
        return {tuple(make_splits(r.dataset, load_source(r.dataset), CPU).train.labels.tolist()) for r in runs}

    assert len(drawn()) == 1
    assert len(drawn("dataset.split_seed=seed")) == 2


def test_a_switch_makes_validation_labels_as_noisy(split):
    plain, noisy = split(), split("dataset.label_noise=0.4", "dataset.noisy_validation=true")
    assert torch.equal(noisy.val.images, plain.val.images)
    assert int((noisy.val.labels != plain.val.labels).sum()) == 200
    assert torch.equal(noisy.test.labels, plain.test.labels)


def test_a_validation_split_of_the_datas_own_keeps_its_labels_but_for_the_switch(plan):
    (planned,) = plan()
    choice, source = planned.run.dataset, load_source(planned.run.dataset)
    val = {"val_images": source.test_images, "val_labels": source.test_labels}
    source = replace(source, **val, fingerprint="own")
    for switch in (False, True):
        values = {**choice.values, "label_noise": 0.5, "noisy_validation": switch}
        data = make_splits(replace(choice, values=values), source, CPU)
        assert torch.equal(data.val.images, data.test.images)
        assert int((data.val.labels != data.test.labels).sum()) == 20 * switch


# --- a long tail -----------------------------------------------------------------------------------------------------


def test_the_tail_is_that_of_the_papers():
    """CIFAR-10-LT of Cao et al. 2019, whose imbalance of 100 is our ratio of 0.01."""
    even = np.full(10, 5000)
    assert count_long_tail(even, 0.01).tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert count_long_tail(even, 1).tolist() == even.tolist()
    assert count_long_tail(np.array([100, 100]), 0.29).tolist() == [100, 29]


def test_the_ratio_holds_on_data_that_are_uneven_to_begin_with():
    given = np.array([90, 300, 40, 5])
    kept = count_long_tail(given, 0.1)
    assert kept.tolist() == [50, 23, 10, 5]
    assert (kept <= given).all()


def test_training_gets_the_tail_and_validation_and_test_stay_as_they_are(split):
    plain, tailed = split(), split("dataset.imbalance=0.1")
    assert counts(plain) == [150] * 10
    assert counts(tailed) == [*tailed.class_counts] == count_long_tail(np.full(10, 150), 0.1).tolist()
    assert plain.class_counts == ()
    assert set(content(tailed.train)) <= set(content(plain.train))
    for name in ("val", "test"):
        assert content(getattr(tailed, name)) == content(getattr(plain, name))


def test_a_rarer_tail_lies_within_a_less_rare_one_and_a_smaller_train_size_within_a_larger(split):
    rare, less = split("dataset.imbalance=0.02"), split("dataset.imbalance=0.2")
    assert set(content(rare.train)) < set(content(less.train))
    assert (counts(rare)[0], counts(rare)[-1], counts(less)[-1]) == (150, 3, 30)
    small = split("dataset.imbalance=0.2", "dataset.train_size=200")
    assert set(content(small.train)) < set(content(less.train))
    expected = np.array(counts(less)) * 200 / len(less.train)
    assert np.abs(np.array(counts(small)) - expected).max() <= 1.5


def test_noise_is_of_the_images_that_the_tail_leaves(split):
    data = split("dataset.imbalance=0.1", "dataset.label_noise=0.4")
    assert np.bincount(data.train.true_labels).tolist() == [*data.class_counts]
    assert data.describe()["wrong_labels"] == round(0.4 * len(data.train))


# --- settings --------------------------------------------------------------------------------------------------------


def test_options_that_are_not_used_move_no_identity(plan):
    neutral = ("dataset.imbalance=1", "dataset.label_noise=0", "dataset.noisy_validation=false")
    assert plan(*neutral)[0].run_id == plan("dataset.imbalance=1.0", "dataset.label_noise=0.0")[0].run_id
    keys = {"dataset.imbalance", "dataset.label_noise", "dataset.noisy_validation"}
    assert not keys & identity(plan()[0].run).keys()
    used = ("dataset.imbalance=0.5", "dataset.label_noise=0.2", "dataset.noisy_validation=true")
    assert keys < identity(plan(*used)[0].run).keys()


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("dataset.label_noise=1", r"a number in \[0, 1\)"),
        ("dataset.label_noise=-0.1", r"a number in \[0, 1\)"),
        ("dataset.label_noise=true", r"a number in \[0, 1\)"),
        ("dataset.imbalance=0", r"a number in \(0, 1\]"),
        ("dataset.imbalance=100", r"a number in \(0, 1\]"),
        ("dataset.noisy_validation=0.4", "one of true, false"),
    ],
)
def test_values_out_of_their_range_are_refused(override, allowed, plan):
    with pytest.raises(UsageError, match=rf"{override.replace('true', 'True')} is not allowed.\nIt must be {allowed}"):
        plan(override)


def test_a_tail_without_an_image_of_a_class_is_refused_and_so_is_a_train_size_that_it_does_not_leave(plan):
    with pytest.raises(
        UsageError, match=r"imbalance=0.01 leaves no image of the rarest class: synthetic has 64.*\n.*up"
    ):
        plan("dataset.imbalance=0.01")
    with pytest.raises(UsageError, match=r"validation takes 16 and imbalance 28\.\nAsk for at most 36"):
        plan("dataset.imbalance=0.25", "dataset.train_size=50")


def test_a_switch_without_noise_or_without_validation_is_said():
    typed = "dataset.noisy_validation=true"

    def said(*more):
        return [line.partition(": ")[2] for line in find_unused(app.compose([*TINY, typed, *more]))]

    assert said() == ["dataset.label_noise is 0."]
    assert said("dataset.label_noise=0.2", "dataset.val_fraction=0") == ["there is no validation split."]
    assert said("dataset.label_noise=0,0.2") == []
