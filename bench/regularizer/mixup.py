"""Mixup: train on convex combinations of pairs of samples and of their labels.

Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", eq. 1, lam ~ Beta(alpha, alpha), one lam per
batch as in the authors' code. Deviation: none in the arithmetic; as everywhere here, targets are mixed instead of
losses, which is the same for cross-entropy. The authors report the best test epoch; regbench reads the test split
once, at the end.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from bench.config.ranges import POSITIVE


def mixup(images: Tensor, targets: Tensor, lam: float, perm: Tensor) -> tuple[Tensor, Tensor]:
    """Mixed images lam·x_i + (1-lam)·x_perm(i), and targets mixed by the same rule; the inputs are left as they are.

    Args:
        images: (N, C, H, W), floating.
        targets: (N, K), rows that sum to 1.
        lam: weight of the original sample, in [0, 1]. Reduces to the inputs at 1.
        perm: (N,) partner indices, on the device of the images.
    """
    return torch.lerp(images[perm], images, lam), torch.lerp(targets[perm], targets, lam)


@dataclass(frozen=True)
class Mixup:
    """Mixes every batch, lam ~ Beta(alpha, alpha), alpha above 0."""

    alpha: Annotated[float, POSITIVE]

    def __call__(self, images: Tensor, targets: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mixed images (N, C, H, W) and targets (N, K); lam, then the partners, are drawn from `random`."""
        lam = random.beta(self.alpha, self.alpha)
        return mixup(images, targets, lam, draw_perm(random, images))


def draw_perm(random: np.random.Generator, images: Tensor) -> Tensor:
    """Partner indices (N,) on the device of the images (N, ...), moved without waiting for the device."""
    perm = torch.from_numpy(random.permutation(len(images)))
    return perm.to(images.device, non_blocking=True)
