"""The Hessian of a mean loss in the trained weights, by its products with vectors: largest eigenvalue and trace.

A product is the gradient of the gradient's inner product with the vector (Pearlmutter 1994). curvlinops has the same
for many more matrices, and brings six packages along.
"""

from collections.abc import Callable, Iterator
from math import isfinite, nan, sqrt

import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn

from bench.probe.passes import Shares

_STEPS, _TOLERANCE = 100, 0.01


class Hessian:
    """Of the sum of `shares` in the n weights of `model` that need a gradient, flat in the order of its parameters."""

    def __init__(self, model: nn.Module, shares: Shares) -> None:
        self.shares = shares
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.sizes = [w.numel() for w in self.weights]

    def times(self, vector: Tensor) -> Tensor:
        """Its product with a vector (n,)."""
        total = torch.zeros_like(vector)
        for grads in self._gradients():
            total += self._differentiate(grads, vector)
        return total

    def sample_trace(self, signs: Tensor) -> Tensor:
        """An estimate of the trace from each of k vectors of random signs (k, n) of any dtype, (k,) in float64.

        Source: Hutchinson 1990: v'Hv. Each batch takes the vectors turned by another number of places, which is as good
        as other vectors: so the errors of batches do not add up. A batch's gradient is taken once for all vectors.
        """
        total = torch.zeros(len(signs), dtype=torch.float64, device=signs.device)
        for i, grads in enumerate(self._gradients()):
            turned = signs.roll(i * signs.shape[1] // len(self.shares), dims=1)
            vectors = (vector.to(self.weights[0].dtype) for vector in turned)
            total += torch.stack([vector @ self._differentiate(grads, vector) for vector in vectors])
        return total

    def _gradients(self) -> Iterator[list[Tensor]]:
        for share in self.shares:
            yield list(torch.autograd.grad(share(), self.weights, create_graph=True, materialize_grads=True))

    def _differentiate(self, grads: list[Tensor], vector: Tensor) -> Tensor:
        """The gradient of grads'vector; weights that a gradient does not depend on give 0."""
        parts = zip(grads, torch.split(vector, self.sizes), strict=True)
        dots = [(grad * part.view_as(grad)).sum() for grad, part in parts if grad.requires_grad]
        if not dots:
            return torch.zeros_like(vector)
        dot = torch.stack(dots).sum()
        found = torch.autograd.grad(dot, self.weights, retain_graph=True, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in found])


def largest_eigenvalue(
    times: Callable[[Tensor], Tensor], start: Tensor, *, tolerance: float = _TOLERANCE, steps: int = _STEPS
) -> float:
    """The largest eigenvalue, as signed, of a symmetric matrix; NaN where a product is not finite.

    Source: Lanczos 1950, without reorthogonalisation: that gives eigenvalues more than once and no wrong ones (Paige
    1980), and takes three vectors instead of one for each step.

    Args:
        times: the matrix's product with a vector.
        start: a random vector (n,), on the device and of the precision of the products.
        tolerance: it ends where an eigenvalue is as near as that, relative to itself; it is nearer by far, as the
            bound is of the residual.
        steps: at most; what they give is too small where they do not suffice.
    """
    vector, before, beta = start / start.norm(), torch.zeros_like(start), 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(steps):
        ahead = times(vector) - beta * before
        along = ahead @ vector
        ahead = ahead - along * vector
        alpha, beta = torch.stack([along, ahead.norm()]).tolist()
        if not isfinite(alpha + beta):
            return nan
        diagonal.append(alpha)
        last = len(diagonal) - 1
        (value,), parts = eigh_tridiagonal(diagonal, beside, select="i", select_range=(last, last))
        if beta * abs(parts[-1, 0]) <= tolerance * abs(value):
            break
        beside.append(beta)
        before, vector = vector, ahead / beta
    return float(value)


def trace(hessian: Hessian, signs: Tensor) -> tuple[float, float]:
    """The mean of `sample_trace`, of at least 2 vectors, and its standard error."""
    samples = hessian.sample_trace(signs)
    mean, deviation = torch.stack([samples.mean(), samples.std()]).tolist()
    return mean, deviation / sqrt(len(signs))
