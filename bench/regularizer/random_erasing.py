"""Random erasing: a rectangle of some images is hidden, of a random size, shape and place; targets stay as they are.

Source: Zhong et al. 2020, "Random Erasing Data Augmentation", algorithm 1, as torchvision's RandomErasing has it: the
share of the area is uniform in `scale`, the logarithm of height over width uniform between those of `ratio`, and of up
to ten such rectangles the first counts that is lower and narrower than the image, at a uniform place within it.

Deviations: what is hidden is 0, the mean colour of normalised images, as torchvision's default, where the authors
prefer random pixels. The authors draw the ratio itself uniformly, and without end until one fits. All ten rectangles of
all images are drawn at once, on the CPU, where torchvision draws for one image at a time: the same distribution, other
numbers. It fills the slot `erase`, of which cutout.py says why it is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bench.config.ranges import POSITIVE, SHARE, Pair
from bench.regularizer.cutout import erase

_TRIES = 10


@dataclass(frozen=True)
class RandomErasing:
    """Hides a rectangle in each image with `probability` in [0, 1]. Reduces to the images at 0.

    Attributes:
        probability: of an image to lose a rectangle.
        scale: the least and the largest share of an image's area, in [0, 1].
        ratio: the least and the largest height over width, above 0.
    """

    probability: Annotated[float, SHARE]
    scale: Annotated[Sequence[float], Pair(SHARE)]
    ratio: Annotated[Sequence[float], Pair(POSITIVE)]

    def __post_init__(self) -> None:
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if low > high:
                raise ValueError(f"{name} must be [least, largest], got [{low}, {high}]")

    def __call__(self, images: Tensor, random: np.random.Generator) -> Tensor:
        """Images (N, C, H, W) with a rectangle of some at 0, drawn from `random`.

        Raises:
            ValueError: no rectangle of these shares and ratios is lower and narrower than the images.
        """
        height, width = images.shape[-2:]
        area = self.scale[0] * height * width
        lowest = max(self.ratio[0], area / (width - 0.5) ** 2)  # ratio at which the smallest is narrower, rounded
        if self.probability and (lowest > self.ratio[1] or lowest * area > (height - 0.5) ** 2):
            raise ValueError(
                f"no rectangle of scale {[*self.scale]} and ratio {[*self.ratio]} is smaller than {height}x{width}"
            )
        return erase(images, self.draw_boxes(random, len(images), height, width))

    def draw_boxes(self, random: np.random.Generator, n: int, height: int, width: int) -> NDArray[np.int64]:
        """Top, left, bottom and right (4, N) of each image's rectangle, the last two exclusive; empty if it has none.

        Drawn in this order: which images, shares (N, 10), ratios (N, 10), rows, columns.
        """
        (least, most), (flat, tall) = self.scale, np.log(self.ratio)
        chosen = random.random(n) < self.probability
        area = height * width * random.uniform(least, most, (n, _TRIES))
        ratio = np.exp(random.uniform(flat, tall, (n, _TRIES)))
        sides = np.rint(np.sqrt([area * ratio, area / ratio]))  # (2, N, 10)
        fits = (sides[0] < height) & (sides[1] < width)
        first = sides[:, np.arange(n), fits.argmax(axis=1)] * (chosen & fits.any(axis=1))
        room = np.array([[height], [width]]) - first + 1
        corners = np.floor(random.random((2, n)) * room)
        return np.concatenate([corners, corners + first]).astype(np.int64)
