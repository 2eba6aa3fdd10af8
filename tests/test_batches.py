"""An epoch's batches: order, crops and flips."""

import pytest
import torch
from conftest import CPU
from test_dataset import choice
from torchvision.transforms.v2 import functional

from bench.dataset import (
    Data,
    Split,
    load_source,
    make_splits,
)
from bench.dataset.batches import PADDING, Batches, Draws, gather


@pytest.fixture
def data():
    return make_splits(choice(train_size=90), load_source(choice()), CPU)


def test_an_epoch_visits_images_once_and_drops_the_last_incomplete_batch(data):
    batches = Batches(data, 20, "none", seed=0)
    assert batches.per_epoch == 4
    epoch = list(batches.epoch(0))
    assert [len(images) for images, _ in epoch] == [20] * 4
    order = batches.draw(0).which
    assert sorted(order.tolist()) == list(range(90))
    labels = torch.cat([targets.argmax(1) for _, targets in epoch])
    assert torch.equal(labels, data.train.labels[order[:80]])


@pytest.mark.parametrize("augment", ["none", "standard", "trivial_augment", "random_resized"])
@pytest.mark.parametrize("skip", [0, 1])
def test_batches_that_are_gathered_together_are_those_gathered_one_by_one(augment, skip, data, monkeypatch):
    batches = Batches(data, 6, augment, seed=0)
    assert batches.per_epoch > 3
    size = 6 * data.train.images[0].numel()
    epochs = []
    for together in (1, 2 * size, 100 * size):
        monkeypatch.setattr("bench.dataset.batches._VALUES_TOGETHER", together)
        epochs.append(list(batches.epoch(1, skip)))
        assert len(epochs[-1]) == batches.per_epoch - skip
    for other in epochs[1:]:
        for (images, targets), (alone, its) in zip(other, epochs[0], strict=True):
            assert torch.equal(images, alone)
            assert torch.equal(targets, its)
            assert images.stride() == alone.stride()


@pytest.mark.parametrize(("augment", "mode"), [("standard", "constant"), ("alternating", "reflect")])
def test_crops_and_flips_equal_torchvisions(augment, mode):
    images = torch.randint(0, 256, (6, 10, 14, 3), dtype=torch.uint8)
    split = Split(images, torch.zeros(6, dtype=torch.int64))
    data = Data(split, split, split, classes=2, flips=True, mean=torch.zeros(3), std=torch.ones(3))
    last = 2 * PADDING[augment]
    which, top, left = torch.tensor([[3, 0, 5], [0, last, 3], [last, 0, 1]])
    draws = Draws(which, top, left, flip=torch.tensor([True, False, True]))
    ours = gather(Batches(data, 3, augment, seed=0).images, draws, 10, 14).permute(0, 3, 1, 2)
    for mine, which, top, left, flip in zip(ours, *draws, strict=True):
        theirs = functional.pad(images[which].permute(2, 0, 1), [PADDING[augment]], padding_mode=mode)
        theirs = functional.crop(theirs, int(top), int(left), 10, 14)
        assert torch.equal(mine, functional.horizontal_flip(theirs) if flip else theirs)


def test_standard_augmentation_draws_all_crops_and_flips_only_where_a_flip_keeps_the_class(data):
    draws = Batches(data, 20, "standard", seed=0).draw(0)
    assert set(draws.top.tolist()) == set(draws.left.tolist()) == set(range(2 * PADDING["standard"] + 1))
    assert not draws.flip.any()  # digits
    flipping = data.__class__(**{**vars(data), "flips": True})
    assert Batches(flipping, 20, "standard", seed=0).draw(0).flip.float().mean().item() == pytest.approx(0.5, abs=0.2)


def test_alternating_flips_show_each_side_of_an_image_in_two_epochs(data):
    data = data.__class__(**{**vars(data), "flips": True})
    batches = Batches(data, 20, "alternating", seed=0)
    flipped = [torch.empty(90).index_copy(0, d.which, d.flip.float()) for d in map(batches.draw, range(4))]
    assert torch.equal(flipped[0], flipped[2])
    assert torch.equal(flipped[1], flipped[3])
    assert torch.equal(flipped[0] + flipped[1], torch.ones(90))
    assert flipped[0].mean().item() == pytest.approx(0.5, abs=0.2)
    other = Batches(data, 20, "alternating", seed=1).draw(0)
    assert not torch.equal(torch.empty(90).index_copy(0, other.which, other.flip.float()), flipped[0])
    assert not Batches(data.__class__(**{**vars(data), "flips": False}), 20, "alternating", 0).draw(0).flip.any()


def test_epochs_and_seeds_differ_and_repeat(data):
    first, again = Batches(data, 20, "standard", seed=0), Batches(data, 20, "standard", seed=0)
    assert all(torch.equal(a, b) for a, b in zip(first.draw(3), again.draw(3), strict=True))
    assert not torch.equal(first.draw(3).which, first.draw(4).which)
    assert not torch.equal(first.draw(3).which, Batches(data, 20, "standard", seed=1).draw(3).which)
