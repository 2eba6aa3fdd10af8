import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from bench.regularizer.cutmix import CutMix, cutmix, draw_box
from bench.regularizer.mixup_cutmix import MixupCutMix


def test_follows_the_formula_with_a_mask(batch):
    images, targets = batch
    perm = torch.randperm(12)
    mask = torch.ones(6, 10)
    mask[1:4, 2:9] = 0
    lam = mask.mean().item()
    mixed_images, mixed_targets = cutmix(images, targets, (1, 2, 4, 9), perm)
    torch.testing.assert_close(mixed_images, mask * images + (1 - mask) * images[perm])
    torch.testing.assert_close(mixed_targets, lam * targets + (1 - lam) * targets[perm])


def test_equals_torchvision_with_its_box_and_its_partners():
    """torchvision pairs each sample with the one before it; its box is (left, top, right, bottom)."""
    images, labels = torch.randn(6, 3, 8, 12), torch.tensor([0, 1, 2, 3, 0, 1])
    theirs = v2.CutMix(alpha=1.0, num_classes=4)
    params = {"box": (2, 1, 9, 6), "lam_adjusted": 1 - 7 * 5 / 96, "labels": labels, "batch_size": 6}
    their_images, their_targets = theirs.transform(images, params), theirs.transform(labels, params)
    ours = cutmix(images, torch.eye(4)[labels], (1, 2, 6, 9), torch.arange(6).roll(1))
    torch.testing.assert_close(ours, (their_images, their_targets))


def test_each_pixel_comes_from_one_parent_and_lam_is_the_share_of_pixels_kept():
    images = torch.arange(12.0).view(12, 1, 1, 1).expand(12, 3, 6, 10).contiguous()
    targets = torch.eye(12)
    for seed in range(50):
        mixed, mixed_targets = CutMix(alpha=1.0, prob=1.0)(images, targets, np.random.default_rng(seed))
        torch.testing.assert_close(mixed_targets.sum(1), torch.ones(12))
        for sample in range(12):
            shares = torch.bincount(mixed[sample].long().flatten(), minlength=12) / mixed[sample].numel()
            assert (shares > 0).sum() <= 2
            torch.testing.assert_close(shares, mixed_targets[sample])
    assert torch.equal(images[:, 0, 0, 0], torch.arange(12.0))


def test_an_empty_box_reduces_to_the_inputs(batch):
    images, targets = batch
    mixed = cutmix(images, targets, (3, 3, 3, 3), torch.arange(12).flip(0))
    assert torch.equal(mixed[0], images)
    assert torch.equal(mixed[1], targets)


def test_the_mean_lam_of_clipped_boxes_at_alpha_1_is_about_0_7():
    random = np.random.default_rng(0)
    boxes = np.array([draw_box(random, 32, 32, alpha=1.0) for _ in range(20_000)])
    top, left, bottom, right = boxes.T
    assert top.min() >= 0
    assert left.min() >= 0
    assert bottom.max() <= 32
    assert right.max() <= 32
    lam = 1 - (bottom - top) * (right - left) / 1024
    assert lam.mean() == pytest.approx(0.70, abs=0.02)


def test_height_and_width_are_not_swapped():
    random = np.random.default_rng(0)
    boxes = np.array([draw_box(random, 8, 64, alpha=1.0) for _ in range(500)])
    assert boxes[:, 2].max() == 8
    assert boxes[:, 3].max() == 64


@pytest.mark.parametrize(("prob", "share"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_prob_is_the_share_of_batches_that_are_mixed(batch, prob, share):
    images, targets = batch
    random, method = np.random.default_rng(0), CutMix(alpha=1.0, prob=prob)
    mixed = [method(images, targets, random)[0] is not images for _ in range(1000)]
    assert np.mean(mixed) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize(("cutmix_prob", "share"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_mixup_cutmix_tosses_a_coin_per_batch(batch, cutmix_prob, share):
    images, targets = batch
    random = np.random.default_rng(0)
    method = MixupCutMix(mixup_alpha=1.0, cutmix_alpha=1.0, cutmix_prob=cutmix_prob)
    pasted = [bool((method(images, targets, random)[0] % 1 == 0).all()) for _ in range(500)]  # Mixup makes fractions
    assert np.mean(pasted) == pytest.approx(share, abs=0.06)
