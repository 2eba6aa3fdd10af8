"""How linear a model is between test images, and how strongly its loss depends on them."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.probe.passes import compute_probs, in_batches

LAMS = (0.25, 0.5, 0.75)


def linearity_deviation(model: nn.Module, images: Tensor) -> float:
    """How far predictions at lam·x + (1 - lam)·x' lie from lam·p(x) + (1 - lam)·p(x'), in [0, 1].

    The mean total variation, half the sum over classes of absolute differences, over lams of 1/4, 1/2 and 3/4 and the
    pairs of each image and the one before it. Mixup trains for 0, with labels in place of predictions: Zhang et al.
    2018, sect. 2.

    Args:
        model: in evaluation mode, from normalised images to logits.
        images: normalised, (N, C, H, W), in random order.
    """
    probs, others = compute_probs(model, images), images.roll(1, dims=0)
    deviations = []
    for lam in LAMS:
        mixed = compute_probs(model, lam * images + (1 - lam) * others)
        linear = lam * probs + (1 - lam) * probs.roll(1, dims=0)
        deviations.append((mixed - linear).abs().sum(1).mean() / 2)
    return float(torch.stack(deviations).mean())


def input_gradient_norm(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Mean over images of the 2-norm of the gradient of an image's cross-entropy in its normalised pixels.

    Args:
        model: in evaluation mode, from normalised images to logits.
        images: normalised, (N, C, H, W).
        labels: (N,).
    """
    norms = []
    for some, of in in_batches(images, labels):
        some = some.detach().requires_grad_()
        loss = cross_entropy(model(some).double(), of, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, some)
        norms.append(gradient.flatten(1).norm(dim=1))
    return float(torch.cat(norms).double().mean())
