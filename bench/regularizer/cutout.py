"""Cutout: a square of each image is hidden, at a place of its own; targets stay as they are.

Source: DeVries & Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout", and
the authors' code: the square's centre is uniform over the pixels, so that part of it may lie outside, and it is 0, the
mean colour, as images are normalised. Deviation: a square of an odd size has that size, where the authors' code, which
takes half of it to each side, makes it one pixel smaller. Even sizes are the same.

Erasing has a slot of its own, before mixing: it changes no target and pairs no images, so it stacks with Mixup and
CutMix, as in the recipes that use both; and as its generator is another, they draw the same with and without it.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.config.ranges import Range


def erase(images: Tensor, boxes: NDArray[np.int64]) -> Tensor:
    """Images with 0 within a box of each; the inputs are left as they are.

    Args:
        images: (N, C, H, W), floating and finite.
        boxes: (4, N), of each image top, left, bottom and right in pixels, the last two exclusive; what lies outside of
            the image has no effect. Reduces to the images where boxes are empty.
    """
    height, width = images.shape[-2:]
    moved = torch.from_numpy(boxes).to(images.device, non_blocking=True)
    top, left, bottom, right = moved.view(4, -1, 1, 1, 1)
    rows = torch.arange(height, device=images.device).view(-1, 1)
    columns = torch.arange(width, device=images.device)
    outside = ((rows < top) | (rows >= bottom)) | ((columns < left) | (columns >= right))
    erased: Tensor = images * outside  # which keeps the images' layout in memory, as masked_fill does not
    return erased


@dataclass(frozen=True)
class Cutout:
    """Hides a square of `size` pixels, at least 0, in each image. Reduces to the images at 0."""

    size: Annotated[int, Range(integer=True, low=0)]

    def __call__(self, images: Tensor, random: np.random.Generator) -> Tensor:
        """Images (N, C, H, W) with a square of each at 0; `random` draws the centres, all rows, then all columns.

        Raises:
            ValueError: a square that covers every image wherever its centre is.
        """
        n, _, height, width = images.shape
        if self.size >= 2 * max(height, width) - 1:
            raise ValueError(f"a square of {self.size} pixels always hides all of an image of {height}x{width}")
        centres = np.stack([random.integers(height, size=n), random.integers(width, size=n)])
        corners = centres - self.size // 2
        return erase(images, np.concatenate([corners, corners + self.size]))
