"""Passes of a trained model over many images, in batches of a fixed size, that leave nothing of it changed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from bench.dataset.mapped import Images
from bench.model.buffers import kept_buffers
from bench.rng import global_stream

_VALUES, _MOST = 2**19, 128  # of a batch, values and images: 128 of 32x32 in colour, 3 of 224x224
Shares = Sequence[Callable[[], Tensor]]  # scalars with their graph, a batch each, whose sum is a mean loss


@contextmanager
def untouched(model: nn.Module, seed: int) -> Iterator[None]:
    """Evaluation mode, float32 without autocast; at its end the model is as it was, and so are the global generators.

    That is: each module's mode and buffers, and each parameter's gradient. Attention takes the one way that can be
    differentiated twice.

    Args:
        model: not compiled, for what is compiled cannot be differentiated twice.
        seed: of what a user's own model may draw.
    """
    modes = [(module, module.training) for module in model.modules()]
    grads = [(parameter, parameter.grad) for parameter in model.parameters()]
    device = next((parameter.device for parameter, _ in grads), torch.device("cpu"))
    try:
        model.eval()
        model.zero_grad()
        with (
            kept_buffers([module for module, _ in modes]),
            global_stream(device, seed, "probe"),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
            sdpa_kernel(SDPBackend.MATH),
        ):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, grad in grads:
            parameter.grad = grad


def batch_size(images: Images) -> int:
    """How many of such images make a batch: a function of their shape alone, so that numbers depend on nothing else."""
    return max(min(_VALUES // images.shape[1:].numel(), _MOST), 1)


def in_batches(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Equal parts of tensors of one length, of which the first holds images."""
    return zip(*(torch.split(tensor, batch_size(tensors[0])) for tensor in tensors), strict=True)


def loss_shares(model: nn.Module, images: Tensor, labels: Tensor) -> Shares:
    """The mean cross-entropy of normalised images (N, C, H, W) against labels (N,), as a sum over batches."""
    return [partial(_share, model, some, of, len(labels)) for some, of in in_batches(images, labels)]


def _share(model: nn.Module, images: Tensor, labels: Tensor, total: int) -> Tensor:
    logits = model(images).double()  # the float32 logits', of which small differences are taken
    return cross_entropy(logits, labels, reduction="sum") / total


@torch.no_grad()
def compute_probs(model: nn.Module, images: Tensor) -> Tensor:
    """Probabilities (N, K) in float64 of normalised images (N, C, H, W)."""
    return torch.cat([model(some).double().softmax(1) for (some,) in in_batches(images)])
