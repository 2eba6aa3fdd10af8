import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from bench.regularizer.mixup import Mixup, mixup


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.5, 0.9])
def test_follows_the_formula(lam):
    images, targets = torch.randn(5, 3, 4, 7, dtype=torch.float64), torch.softmax(torch.randn(5, 3).double(), 1)
    perm = torch.tensor([1, 2, 0, 4, 3])
    mixed_images, mixed_targets = mixup(images, targets, lam, perm)
    torch.testing.assert_close(mixed_images, lam * images + (1 - lam) * images[perm])
    torch.testing.assert_close(mixed_targets, lam * targets + (1 - lam) * targets[perm])


def test_equals_torchvision_with_its_lam_and_its_partners(monkeypatch):
    """torchvision pairs each sample with the one before it in the batch."""
    images, labels = torch.randn(6, 3, 4, 7), torch.tensor([0, 1, 2, 3, 0, 1])
    monkeypatch.setattr("torch._sample_dirichlet", lambda *a, **k: torch.tensor([0.3, 0.7], dtype=torch.float64))
    their_images, their_targets = v2.MixUp(alpha=1.0, num_classes=4)(images, labels)
    ours = mixup(images, torch.eye(4)[labels], 0.3, torch.arange(6).roll(1))
    torch.testing.assert_close(ours, (their_images, their_targets))


def test_reduces_to_the_inputs_at_lam_1(batch):
    images, targets = batch
    mixed = mixup(images, targets, 1.0, torch.arange(12).flip(0))
    assert torch.equal(mixed[0], images)
    assert torch.equal(mixed[1], targets)


def test_leaves_the_inputs_alone_and_keeps_rows_of_targets_at_sum_1(batch):
    images, targets = batch
    before = images.clone(), targets.clone()
    _, mixed = Mixup(alpha=1.0)(images, targets, np.random.default_rng(0))
    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])
    torch.testing.assert_close(mixed.sum(1), torch.ones(12))


def test_lam_weighs_the_original_and_has_the_mean_and_variance_of_its_beta():
    images, targets = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.eye(2)
    random, lams = np.random.default_rng(0), []
    while len(lams) < 4000:
        mixed, _ = Mixup(alpha=0.2)(images, targets, random)
        if mixed[0] != 0:  # sample 0 is mixed with sample 1: its value is 1 - lam
            lams.append(1 - mixed[0].item())
    assert np.mean(lams) == pytest.approx(0.5, abs=0.03)
    assert np.var(lams) == pytest.approx(0.25 / 1.4, abs=0.01)  # of Beta(a, a): 1 / (4 (2a + 1))


def test_odd_batches_work():
    images, targets = Mixup(alpha=1.0)(torch.randn(7, 1, 3, 3), torch.eye(7), np.random.default_rng(1))
    assert images.shape == (7, 1, 3, 3)
    torch.testing.assert_close(targets.sum(1), torch.ones(7))
