"""CutMix: paste a box of one sample into another, and mix the labels by area.

Source: Yun et al. 2019, "CutMix", eq. 1 and 2, and the authors' code for the box: its centre is uniform, its sides are
sqrt(1 - lam) of the image's, and it is clipped at the border. So lam is computed anew from the true area: at alpha=1 on
32x32 images its mean is about 0.70, not 0.5. The paper applies it with probability 0.5 on CIFAR.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from torch import Tensor

from bench.config.ranges import POSITIVE, SHARE
from bench.regularizer.mixup import draw_perm

Box = tuple[int, int, int, int]


def cutmix(images: Tensor, targets: Tensor, box: Box, perm: Tensor) -> tuple[Tensor, Tensor]:
    """Images with their partner's box, targets mixed by the share of pixels kept; inputs stay as they are.

    Args:
        images: (N, C, H, W).
        targets: (N, K), rows that sum to 1.
        box: (top, left, bottom, right) in pixels within the image, the last two exclusive. Reduces to the inputs
            where it is empty.
        perm: (N,) partner indices, on the device of the images.
    """
    top, left, bottom, right = box
    height, width = images.shape[-2:]
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[perm, :, top:bottom, left:right]
    lam = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, targets.lerp(targets[perm], 1 - lam)


def draw_box(random: np.random.Generator, height: int, width: int, alpha: float) -> Box:
    """A box, in pixels, of about the share 1 - lam of the image, lam ~ Beta(alpha, alpha), alpha above 0.

    It is clipped at the border, and may be empty.
    """
    ratio = math.sqrt(1 - random.beta(alpha, alpha))
    half_height, half_width = int(height * ratio) // 2, int(width * ratio) // 2
    row, column = int(random.integers(height)), int(random.integers(width))
    return (
        max(row - half_height, 0),
        max(column - half_width, 0),
        min(row + half_height, height),
        min(column + half_width, width),
    )


@dataclass(frozen=True)
class CutMix:
    """Applies CutMix to a batch with probability `prob` in [0, 1], with Beta(alpha, alpha), alpha above 0."""

    alpha: Annotated[float, POSITIVE]
    prob: Annotated[float, SHARE]

    def __call__(self, images: Tensor, targets: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mixed images (N, C, H, W) and targets (N, K), or both as they are; `random` draws coin, box and partners."""
        if random.random() >= self.prob:
            return images, targets
        height, width = images.shape[-2:]
        return cutmix(images, targets, draw_box(random, height, width, self.alpha), draw_perm(random, images))
