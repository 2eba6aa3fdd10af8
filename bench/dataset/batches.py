"""An epoch's training batches, gathered and augmented on the device for the whole batch at once.

Order, crops and flips of an epoch are drawn on the CPU and moved once, so every device and every arm sees the same. The
images are padded once, and a crop is part of the gather. Images lie as (N, H, W, C), so batches come out channels-last.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from bench.dataset import Data
from bench.rng import stream

PAD = 4


class Draws(NamedTuple):
    """For each image of an epoch, in order: which one, its crop's corner in the padded image, its flip."""

    which: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor


class Batches:
    """The training batches of one run; each epoch is a function of the seed alone."""

    def __init__(self, data: Data, batch_size: int, augment: str, seed: int) -> None:
        """Pads the images of `data.train` once where `augment` is standard; batches have `batch_size` images."""
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.crops = augment == "standard"
        images = data.train.images
        self.images = pad(images, (0, 0, PAD, PAD, PAD, PAD)) if self.crops else images
        self.targets = one_hot(data.train.labels, data.classes).float()

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch: the last incomplete one is dropped."""
        return len(self.data.train) // self.batch_size

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The epoch's batches but for the first `skip`: normalised images (N, C, H, W) in float32 and one-hot targets
        (N, K)."""
        draws = self.draw(epoch)
        height, width = self.data.shape[-2:]
        for start in range(skip * self.batch_size, self.per_epoch * self.batch_size, self.batch_size):
            batch = Draws._make(drawn[start : start + self.batch_size] for drawn in draws)
            images = gather(self.images, batch, height, width) if self.crops else self.images[batch.which]
            yield normalise(images, self.data), self.targets[batch.which]

    def draw(self, epoch: int) -> Draws:
        """The epoch's order, crops and flips, drawn on the CPU and moved to the device in one go."""
        n = len(self.data.train)
        order = stream(self.seed, "order", epoch).permutation(n)
        random = stream(self.seed, "augment", epoch)
        corners = random.integers(0, 2 * PAD + 1, size=(2, n))
        flips = (random.random(n) < 0.5) & self.data.flips
        drawn = torch.from_numpy(np.stack([order, *corners, flips])).to(self.data.train.images.device)
        which, top, left, flip = drawn
        return Draws(which, top, left, flip.bool())


def gather(padded: Tensor, draws: Draws, height: int, width: int) -> Tensor:
    """Crops of `height` x `width` of the drawn images, flipped where drawn so: (N, H, W, C) of `padded`'s dtype."""
    device = padded.device
    rows = draws.top[:, None] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    columns = draws.left[:, None] + torch.where(draws.flip[:, None], columns.flip(0), columns)
    return padded[draws.which[:, None, None], rows[:, :, None], columns[:, None, :]]


def normalise(images: Tensor, data: Data) -> Tensor:
    """uint8 (N, H, W, C) to float32 (N, C, H, W), channels last, by the training images' mean and deviation."""
    return ((images - data.mean) / data.std).permute(0, 3, 1, 2)
