"""A part of each image, of random size and shape, resized to the image's own size (Szegedy et al. 2015, sect. 6).

As torchvision's RandomResizedCrop with its defaults: 8 to 100 % of the area, sides 3:4 to 4:3, bilinear; equal to it
within a grey level. A part is never larger than the image, and antialiasing changes nothing where images are enlarged.
What we do differently: flips come first, which gives the same pictures as often, and all images are resized together.
"""

from math import log
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

SCALE = (0.08, 1.0)  # of the image's area
RATIO = (3 / 4, 4 / 3)  # width to height
_TRIES = 10  # for a box that fits; then it is the largest in the middle


class Boxes(NamedTuple):
    """Where parts of images lie, in pixels: each (N,)."""

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    height: NDArray[np.int64]
    width: NDArray[np.int64]


class RandomResized:
    """An epoch's boxes; called with some of its images, it cuts these to them and resizes what is left."""

    def __init__(self, shape: torch.Size, random: np.random.Generator, device: torch.device) -> None:
        """Draws for `shape`, (N, C, H, W), of all images of an epoch."""
        n, _, height, width = shape
        self.boxes = torch.from_numpy(np.stack(draw_boxes(n, height, width, random))).to(device)

    def __call__(self, images: Tensor, part: slice) -> Tensor:
        """The parts of the images (uint8, (n, H, W, C)) at these positions of the epoch, of the images' size."""
        return resize_parts(images, self.boxes[:, part])


def draw_boxes(n: int, height: int, width: int, random: np.random.Generator) -> Boxes:
    """Boxes in n images of this height and width: of all numbers drawn, the first that fit."""
    tall, wide = (np.zeros(n, dtype=np.int64) for _ in range(2))
    for _ in range(_TRIES):
        area = random.uniform(*SCALE, n) * height * width
        ratio = np.exp(random.uniform(log(RATIO[0]), log(RATIO[1]), n))
        w, h = np.rint(np.sqrt(area * ratio)).astype(np.int64), np.rint(np.sqrt(area / ratio)).astype(np.int64)
        fits = (tall == 0) & (w > 0) & (w <= width) & (h > 0) & (h <= height)
        tall[fits], wide[fits] = h[fits], w[fits]
    left_over = tall == 0
    tall[left_over] = min(height, round(width / RATIO[0]))
    wide[left_over] = min(width, round(height * RATIO[1]))
    top, left = random.integers(0, height - tall + 1), random.integers(0, width - wide + 1)
    top[left_over], left[left_over] = (height - tall[left_over]) // 2, (width - wide[left_over]) // 2
    return Boxes(top, left, tall, wide)


def resize_parts(images: Tensor, boxes: Tensor) -> Tensor:
    """Each image's box, enlarged to the image's size: uint8 (N, H, W, C).

    Args:
        images: uint8 (N, H, W, C).
        boxes: (4, N) on the same device: top, left, height and width.
    """
    _, height, width, _ = images.shape
    top, left, tall, wide = boxes.float()
    y, x = _places(top, tall, height), _places(left, wide, width)
    grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=-1)
    resized = grid_sample(images.permute(0, 3, 1, 2).float(), grid, align_corners=False)
    return resized.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _places(first: Tensor, count: Tensor, size: int) -> Tensor:
    """Where each of `size` pixels of the result comes from, (N, size): among `count` pixels from `first` on, none
    beyond the middle of the outermost; from -1 to 1 as grid_sample has it, the edges of an image of `size` pixels."""
    middles = (torch.arange(size, device=first.device) + 0.5) * (count[:, None] / size)
    middles = torch.minimum(middles.clamp(min=0.5), count[:, None] - 0.5)
    return (first[:, None] + middles) * (2 / size) - 1
