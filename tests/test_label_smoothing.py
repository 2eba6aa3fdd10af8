import pytest
import timm.data.mixup
import torch
from torch.nn.functional import cross_entropy

from bench.regularizer.label_smoothing import LabelSmoothing, smooth
from bench.regularizer.mixup import mixup


def test_the_example_of_four_classes():
    torch.testing.assert_close(smooth(torch.eye(4)[2:3], 0.1), torch.tensor([[0.025, 0.025, 0.925, 0.025]]))


def test_targets_equal_timms():
    labels = torch.tensor([0, 2, 1, 3, 2])
    theirs = timm.data.mixup.mixup_target(labels, 4, lam=0.3, smoothing=0.1)  # timm pairs by flipping the batch
    _, mixed = mixup(torch.zeros(5, 1, 1, 1), torch.eye(4)[labels], 0.3, torch.arange(5).flip(0))
    torch.testing.assert_close(smooth(mixed, 0.1), theirs)


def test_loss_equals_torchs_label_smoothing():
    logits, labels = torch.randn(8, 5), torch.arange(8) % 5
    ours = LabelSmoothing(0.2)(logits, torch.eye(5)[labels])
    torch.testing.assert_close(ours, cross_entropy(logits, labels, label_smoothing=0.2))


def test_reduces_to_cross_entropy_at_0():
    logits, targets = torch.randn(8, 5), torch.softmax(torch.randn(8, 5), 1)
    assert torch.equal(LabelSmoothing(0.0)(logits, targets), cross_entropy(logits, targets))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_rows_sum_to_1_and_mixing_commutes(smoothing):
    targets, perm = torch.softmax(torch.randn(6, 3), 1), torch.randperm(6)
    images = torch.zeros(6, 1, 1, 1)
    torch.testing.assert_close(smooth(targets, smoothing).sum(1), torch.ones(6))
    first = smooth(mixup(images, targets, 0.4, perm)[1], smoothing)
    torch.testing.assert_close(first, mixup(images, smooth(targets, smoothing), 0.4, perm)[1])
