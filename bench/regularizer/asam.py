"""ASAM, adaptive SAM: the perturbation of each weight is scaled by the weight's own size.

Source: Kwon et al. 2021, eq. 8 and 9, element-wise: e = rho·T²g/||Tg|| with T = |w| + eta. Biases and normalisation
parameters (all tensors of fewer than two dimensions) are perturbed unscaled, T = 1, where the authors' code scales the
normalisation weights. rho does not carry over between implementations: the authors' 0.5 is meant for this form.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from bench.config.ranges import NOT_NEGATIVE
from bench.regularizer.sam import SAM, global_norm


@dataclass(frozen=True)
class ASAM(SAM):
    """Costs what SAM of its interval does; rho >= 0 bounds the norm of e/T, eta >= 0 keeps small weights moving."""

    eta: Annotated[float, NOT_NEGATIVE]

    def perturbation(self, weights: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """The ascent rho·T²g/||Tg|| per parameter."""
        scales = [w.abs() + self.eta if w.ndim > 1 else torch.ones_like(w) for w in weights]
        scaled = list(torch._foreach_mul(scales, grads))
        ascent = torch._foreach_mul(scales, scaled)
        return list(torch._foreach_mul(ascent, self.rho / global_norm(scaled)))
