"""How sharp the minimum is that a training has found: by how much the training loss rises around it, and its curvature.

On the first 1,000 training images, which are a stratified sample that all runs of a dataset share, clean and against
hard labels; BatchNorm and dropout as in evaluation, float32. The ascents are those of the methods themselves: SAM's for
sharpness (Foret et al. 2021) and ASAM's for adaptive sharpness (Kwon et al. 2021), to first order, so a rise may be
below 0. m-sharpness is the mean over small batches, each with an ascent of its own (Foret et al. 2021, sect. 4.1).
"""

from collections.abc import Callable, Sequence
from math import nan

import numpy as np
import torch
from torch import Tensor, nn

from bench.dataset import Data
from bench.dataset.batches import normalise
from bench.measure.probed import Measured
from bench.probe.curvature import Hessian, largest_eigenvalue, trace
from bench.probe.passes import Shares, loss_shares, untouched
from bench.regularizer.asam import ASAM
from bench.regularizer.sam import SAM, perturbed
from bench.rng import stream

SAMPLE = 1000  # training images
M = 16  # images of a batch of m-sharpness
SIGNS = 10  # vectors that the trace is estimated from, by each batch

OF_ALL: dict[str, SAM] = {
    "sharpness_0_05": SAM(0.05),
    "sharpness_0_1": SAM(0.1),
    "sharpness_0_2": SAM(0.2),
    "adaptive_sharpness_0_5": ASAM(0.5, eta=0.01),
    "adaptive_sharpness_1": ASAM(1.0, eta=0.01),
    "adaptive_sharpness_2": ASAM(2.0, eta=0.01),
}
CURVATURE = ("hessian_max", "hessian_trace", "hessian_trace_error")
OF_BATCHES = {"m_sharpness_0_05": SAM(0.05), "m_sharpness_0_1": SAM(0.1), "m_sharpness_0_2": SAM(0.2)}


def measure_sharpness(model: nn.Module, data: Data, seed: int) -> Measured:
    """The columns of `sharpness`.

    Those of the Hessian are NaN where torch has no second derivative of a part of the model, such as a hard sigmoid.
    """
    order = stream(seed, "sample").permutation(min(SAMPLE, len(data.train)))  # which batches of M are cut from
    sample = torch.from_numpy(order).to(data.train.labels.device)
    images, labels = normalise(data.train.images[sample], data), data.train.labels[sample]
    with untouched(model, seed):
        shares = loss_shares(model, images, labels)
        rises = torch.cat(
            [
                loss_rises(model, shares, list(OF_ALL.values())),
                batch_rises(model, images, labels, M, list(OF_BATCHES.values())),
            ]
        )
        numbers = dict(zip([*OF_ALL, *OF_BATCHES], rises.tolist(), strict=True))
        return Measured(numbers | _measure_curvature(model, shares, seed))


def _measure_curvature(model: nn.Module, shares: Shares, seed: int) -> dict[str, float]:
    hessian = Hessian(model, shares)
    weight, n = hessian.weights[0], sum(hessian.sizes)
    start = torch.from_numpy(stream(seed, "lanczos").standard_normal(n)).to(weight)
    signs = 2 * stream(seed, "hutchinson").integers(2, size=(SIGNS, n), dtype=np.int8) - 1
    try:
        largest = largest_eigenvalue(hessian.times, start)
        found = largest, *trace(hessian, torch.from_numpy(signs).to(weight.device))
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
        found = nan, nan, nan
    return dict(zip(CURVATURE, found, strict=True))


def loss_rises(model: nn.Module, shares: Shares, ascents: Sequence[SAM]) -> Tensor:
    """By how much the sum of `shares` rises from the weights to those that each ascent reaches, (len(ascents),).

    Gradients that are found are discarded, and none are left.
    """
    model.zero_grad()
    loss = torch.stack([_differentiate(share) for share in shares]).sum()
    rises = []
    for ascent in ascents:
        with perturbed(model, ascent.perturbation), torch.no_grad():
            rises.append(torch.stack([share() for share in shares]).sum() - loss)
    model.zero_grad()
    return torch.stack(rises)


def _differentiate(share: Callable[[], Tensor]) -> Tensor:
    """The detached share; adds its gradient to `.grad`."""
    loss = share()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def batch_rises(model: nn.Module, images: Tensor, labels: Tensor, m: int, ascents: Sequence[SAM]) -> Tensor:
    """The mean of `loss_rises` over batches of m images, in their order; the last, smaller one counts as it has images.

    Reduces to that of all images at m = N.
    """
    batches = zip(torch.split(images, m), torch.split(labels, m), strict=True)
    rises = [loss_rises(model, loss_shares(model, *batch), ascents) * len(batch[1]) for batch in batches]
    return torch.stack(rises).sum(0) / len(labels)
