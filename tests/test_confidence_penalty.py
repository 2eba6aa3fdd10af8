import math

import pytest
import torch
from torch.distributions import Categorical
from torch.nn.functional import cross_entropy

from bench.errors import UsageError
from bench.regularizer.confidence_penalty import ConfidencePenalty
from bench.regularizer.label_smoothing import LabelSmoothing
from bench.regularizer.mixup import mixup


def gradient(loss, logits, targets):
    logits = logits.clone().requires_grad_()
    value = loss(logits, targets)
    value.backward()
    return value.detach(), logits.grad


@pytest.mark.parametrize("beta", [0.1, 1.0, 2.5])
def test_equals_torchs_entropy_and_its_gradient(beta):
    logits, targets = 3 * torch.randn(50, 7), torch.softmax(torch.randn(50, 7), 1)

    def theirs(z, y):
        return cross_entropy(z, y) - beta * Categorical(logits=z).entropy().mean()

    torch.testing.assert_close(gradient(ConfidencePenalty(beta), logits, targets), gradient(theirs, logits, targets))


def test_equals_torch_uncertaintys_form_less_a_constant():
    """Its ConfidencePenaltyLoss adds log K, and 1e-6 within the logarithm."""
    logits, labels = torch.randn(30, 5), torch.arange(30) % 5
    probs = logits.softmax(1)
    theirs = cross_entropy(logits, labels) + 0.7 * (math.log(5) + (probs * (probs + 1e-6).log()).sum(1)).mean()
    ours = ConfidencePenalty(0.7)(logits, torch.eye(5)[labels])
    torch.testing.assert_close(ours + 0.7 * math.log(5), theirs, rtol=1e-4, atol=1e-5)


def test_its_gradient_is_that_of_label_smoothings_kl_the_other_way_round():
    """Pereyra et al.: the penalty is KL(p, uniform), label smoothing's KL(uniform, p), each plus a constant."""
    logits = torch.randn(20, 4, dtype=torch.float64)
    uniform = torch.full_like(logits, 0.25)
    targets = torch.eye(4, dtype=torch.float64)[torch.arange(20) % 4]

    def kl(p, q):
        return (p * (p.log() - q.log())).sum(1).mean()

    def penalised(z, y):
        return cross_entropy(z, y) + 0.3 * kl(z.softmax(1), uniform)

    def smoothed(z, y):
        return 0.7 * cross_entropy(z, y) + 0.3 * kl(uniform, z.softmax(1))

    ours = gradient(ConfidencePenalty(0.3), logits, targets)[1]
    torch.testing.assert_close(ours, gradient(penalised, logits, targets)[1])
    torch.testing.assert_close(
        gradient(LabelSmoothing(0.3), logits, targets)[1], gradient(smoothed, logits, targets)[1]
    )


def test_of_mixed_targets_it_is_the_mix_of_the_losses():
    logits, targets, perm = torch.randn(20, 5), torch.eye(5)[torch.arange(20) % 5], torch.randperm(20)
    _, mixed = mixup(torch.zeros(20, 1, 1, 1), targets, 0.3, perm)
    loss = ConfidencePenalty(0.5)
    torch.testing.assert_close(loss(logits, mixed), 0.3 * loss(logits, targets) + 0.7 * loss(logits, targets[perm]))


@pytest.mark.parametrize("scale", [1, 100])
def test_reduces_to_cross_entropy_at_0_to_the_bit(scale):
    logits, targets = scale * torch.randn(40, 6), torch.softmax(torch.randn(40, 6), 1)
    ours, plain = gradient(ConfidencePenalty(0.0), logits, targets), gradient(cross_entropy, logits, targets)
    assert torch.equal(ours[0], plain[0])
    assert torch.equal(ours[1], plain[1])


def test_certain_predictions_have_a_finite_gradient_and_equal_ones_the_whole_entropy():
    loss, grad = gradient(ConfidencePenalty(2.0), torch.tensor([[300.0, 0.0, 0.0]]), torch.eye(3)[:1])
    assert loss == 0
    assert grad.isfinite().all()
    assert ConfidencePenalty(2.0)(torch.zeros(4, 8), torch.eye(8)[:4]).item() == pytest.approx(-math.log(8))


def test_a_bad_beta_is_refused_before_training(plan):
    with pytest.raises(UsageError, match="a number of at least 0"):
        plan("regularizer=confidence_penalty", "regularizer.confidence_penalty.beta=-0.1")
