"""SAM, sharpness-aware minimisation, as a gradient rule: min over w of max over ||e||_2 <= rho of L(w + e).

Source: Foret et al. 2021, eq. 2: to first order e = rho·g/||g||, and the gradient is taken at w + e. It is no optimizer
wrapper and keeps no state, so any optimizer, schedule, gradient scaling and checkpoint works as it does without it.
Deviations from common code: weights are put back by copy (add-then-subtract leaves rounding), running state such as
BatchNorm's statistics moves in the first pass only, and weight decay is not part of the perturbation.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated

import torch
from torch import Tensor, nn

from bench.config.ranges import COUNT, NOT_NEGATIVE
from bench.model.buffers import frozen_statistics
from bench.regularizer import Backward

_backward = Backward()
LossClosure = Callable[[], Tensor]
Perturbation = Callable[[list[Tensor], list[Tensor]], list[Tensor]]  # of weights and gradients


@dataclass(frozen=True)
class SAM:
    """The ascent at every `interval`-th step, the first one included; the steps between are plain.

    rho is the radius in the 2-norm over all weights, at least 0; interval is a whole number of at least 1. Reduces to
    plain backward passes at rho 0, at SAM's cost. Other values are a ValueError.
    """

    rho: Annotated[float, NOT_NEGATIVE]
    interval: Annotated[int, COUNT] = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if not self.rho >= 0:
            raise ValueError(f"rho must be at least 0, got {self.rho}")
        if self.interval < 1:
            raise ValueError(f"interval must be at least 1, got {self.interval}")

    @property
    def evaluations_per_step(self) -> Fraction:
        """Two where there is an ascent, else one, on average."""
        return 1 + Fraction(1, self.interval)

    def __call__(self, model: nn.Module, loss_closure: LossClosure, *, step: int = 0) -> Tensor:
        """Detached loss of the first pass; leaves the sharpness-aware gradient in `.grad` and the weights as they were.

        Args:
            model: gradients found on it are discarded; parameters without a gradient are not perturbed.
            loss_closure: computes the scalar loss of the batch to train on; called once or, in a step with an ascent,
                twice. This rule runs `backward`.
            step: its position in the training; there is an ascent where `interval` divides it.
        """
        loss = _backward(model, loss_closure)
        if step % self.interval == 0:
            self.ascend(model, loss_closure)
        return loss

    def ascend(self, model: nn.Module, loss_closure: LossClosure) -> None:
        """Replaces the gradient by that of the weights perturbed along it."""
        with perturbed(model, self.perturbation), frozen_statistics(model):
            _backward(model, loss_closure)

    def perturbation(self, weights: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """The ascent rho·g/||g|| per parameter."""
        return list(torch._foreach_mul(grads, self.rho / global_norm(grads)))


@contextmanager
def perturbed(model: nn.Module, perturbation: Perturbation) -> Iterator[None]:
    """Moves the weights that have a gradient by `perturbation(weights, grads)`, and puts them back bit for bit."""
    moved = [p for p in model.parameters() if p.grad is not None]
    weights = [p.detach() for p in moved]
    before = [w.clone() for w in weights]
    try:
        with torch.no_grad():
            torch._foreach_add_(weights, perturbation(weights, [p.grad for p in moved if p.grad is not None]))
        torch.clear_autocast_cache()  # a caller's autocast around both passes holds the weights of the first
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(weights, before)
        torch.clear_autocast_cache()


def global_norm(tensors: list[Tensor]) -> Tensor:
    """2-norm over all entries of all tensors, kept on the device and away from 0."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
    return norm + 1e-12
