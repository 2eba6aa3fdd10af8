"""Mixup or CutMix by a coin per batch: the usual recipe of current image classifiers.

Source: timm's Mixup with `switch_prob` (Wightman et al. 2021, "ResNet strikes back", sect. 3). Both mix the same
slot, so they cannot stack; this is their combination.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from torch import Tensor

from bench.config.ranges import POSITIVE, SHARE
from bench.regularizer.cutmix import CutMix
from bench.regularizer.mixup import Mixup


@dataclass(frozen=True)
class MixupCutMix:
    """CutMix with probability `cutmix_prob` in [0, 1], else Mixup; both alphas are above 0."""

    mixup_alpha: Annotated[float, POSITIVE]
    cutmix_alpha: Annotated[float, POSITIVE]
    cutmix_prob: Annotated[float, SHARE]

    def __call__(self, images: Tensor, targets: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mixed images (N, C, H, W) and targets (N, K); the coin comes first from `random`."""
        if random.random() < self.cutmix_prob:
            return CutMix(self.cutmix_alpha, prob=1.0)(images, targets, random)
        return Mixup(self.mixup_alpha)(images, targets, random)
