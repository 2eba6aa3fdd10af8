import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax, nll_loss
from torchvision.ops import sigmoid_focal_loss

from bench.errors import UsageError
from bench.regularizer.focal import Focal
from bench.regularizer.mixup import mixup


def gradient(loss, logits, targets):
    logits = logits.clone().requires_grad_()
    value = loss(logits, targets)
    value.backward()
    return value.detach(), logits.grad


def focal_of_labels(logits, labels, gamma):
    """As torch-uncertainty's FocalLoss: of integer labels, the probability gathered."""
    logs = log_softmax(logits, dim=1)
    sure = logs.gather(1, labels[:, None]).squeeze(1).exp()
    return ((1 - sure) ** gamma * nll_loss(logs, labels, reduction="none")).mean()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.0])
def test_equals_the_loss_of_labels_and_its_gradient(gamma):
    logits, labels = 3 * torch.randn(50, 7, dtype=torch.float64), torch.arange(50) % 7
    ours = gradient(Focal(gamma), logits, torch.eye(7, dtype=torch.float64)[labels])
    torch.testing.assert_close(ours, gradient(lambda z, y: focal_of_labels(z, y, gamma), logits, labels))


def test_with_two_classes_the_softmax_form_is_torchvisions_sigmoid_form():
    margin, labels = torch.randn(30, dtype=torch.float64), torch.arange(30) % 2
    logits = torch.stack([torch.zeros_like(margin), margin], dim=1)
    theirs = sigmoid_focal_loss(margin, labels.double(), alpha=-1, gamma=2.0, reduction="mean")
    torch.testing.assert_close(Focal(2.0)(logits, torch.eye(2, dtype=torch.float64)[labels]), theirs)


def test_of_mixed_targets_it_is_the_mix_of_the_losses():
    logits, labels, perm = torch.randn(20, 5), torch.arange(20) % 5, torch.randperm(20)
    _, targets = mixup(torch.zeros(20, 1, 1, 1), torch.eye(5)[labels], 0.3, perm)
    mixed = 0.3 * focal_of_labels(logits, labels, 2.0) + 0.7 * focal_of_labels(logits, labels[perm], 2.0)
    torch.testing.assert_close(Focal(2.0)(logits, targets), mixed)


@pytest.mark.parametrize("scale", [1, 100])
def test_reduces_to_cross_entropy_at_0_to_the_bit(scale):
    logits, targets = scale * torch.randn(40, 6), torch.softmax(torch.randn(40, 6), 1)
    for ours, plain in zip(
        gradient(Focal(0.0), logits, targets), gradient(cross_entropy, logits, targets), strict=True
    ):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
def test_the_gradient_is_finite_where_a_class_is_certain(gamma):
    logits = torch.tensor([[300.0, 0.0, 0.0], [0.0, 300.0, 0.0], [20.0, 0.0, 0.0]])
    loss, grad = gradient(Focal(gamma), logits, torch.eye(3)[[0, 0, 0]])
    assert loss.isfinite()
    assert grad.isfinite().all()


def test_a_bad_gamma_is_refused_before_training(plan):
    with pytest.raises(UsageError, match="a number of at least 0"):
        plan("regularizer=focal", "regularizer.focal.gamma=-1")
