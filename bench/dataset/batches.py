"""An epoch's training batches, gathered and augmented on the device for whole batches at once.

Order, crops and flips of an epoch are drawn on the CPU and moved once, so every device and every arm sees the same. The
images are padded once, and a crop is part of the gather; images that do not fit in memory are read in the order of the
epoch, ahead of the step (mapped.py), and padded then. Images lie as (N, H, W, C), so batches come out channels-last.

`standard` pads with zeros and flips by a coin, as He et al. 2016; `alternating` pads by reflection, and flips by a coin
in the first epoch, then every image in every other epoch (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds", sect. 3.6):
so that two epochs show both sides of each. `trivial_augment` crops and flips as `standard`, `random_resized` flips so;
what they do then is in augment/.
"""

from collections.abc import Generator, Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from bench.dataset import Data
from bench.dataset.augment import draw_transform
from bench.dataset.mapped import MappedImages
from bench.dataset.splits import Indices
from bench.rng import stream

# In pixels; a crop may lie anywhere in the padded image.
PADDING = {"none": 0, "standard": 4, "alternating": 2, "trivial_augment": 4, "random_resized": 0}
_VALUES_TOGETHER = 2**18  # a MiB of float32: batches of small images are gathered several at once


class Draws(NamedTuple):
    """For each image of an epoch, in order: which one, its crop's corner in the padded image, its flip."""

    which: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor


class Batches:
    """The training batches of one run; each epoch is a function of the seed alone."""

    def __init__(self, data: Data, batch_size: int, augment: str, seed: int) -> None:
        """Pads the images of `data.train` once, by `augment`, a key of PADDING; batches have `batch_size` images.

        Images that are not in memory are padded as they come.
        """
        self.data, self.batch_size, self.augment, self.seed = data, batch_size, augment, seed
        self.padding = PADDING[augment]
        images = data.train.images
        self.images = images if isinstance(images, MappedImages) else self._pad(images)
        self.classes = torch.arange(data.classes, device=data.train.labels.device)

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch: the last incomplete one is dropped."""
        return len(self.data.train) // self.batch_size

    def epoch(self, epoch: int, skip: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        """The epoch's batches but for the first `skip`: normalised images (N, C, H, W) in float32 and one-hot targets
        (N, K)."""
        drawn = self._draw(epoch)
        draws = self._move(drawn)
        random, device = stream(self.seed, "policy", epoch), self.data.train.images.device
        transform = draw_transform(self.augment, self.data.shape, random, device)
        height, width = self.data.shape[-2:]
        together = self.batch_size * max(_VALUES_TOGETHER // (self.batch_size * prod(self.data.shape[1:])), 1)
        end = self.per_epoch * self.batch_size
        parts = [slice(start, min(start + together, end)) for start in range(skip * self.batch_size, end, together)]
        for part, (images, at) in zip(parts, self._read(parts, drawn[0], draws.which), strict=True):
            some = Draws._make(each[part] for each in draws)
            plain = self.augment == "none"
            images = images.index_select(0, at) if plain else gather(images, some._replace(which=at), height, width)
            images = normalise(transform(images, part), self.data)
            targets = (self.data.train.labels[some.which][:, None] == self.classes).float()
            yield from zip(torch.split(images, self.batch_size), torch.split(targets, self.batch_size), strict=True)

    def _read(self, parts: Sequence[slice], order: Indices, which: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For each part of an epoch padded images, and at which of them its own are."""
        if isinstance(self.images, MappedImages):
            for images in self.images.read_ahead([order[part] for part in parts]):
                yield self._pad(images), torch.arange(len(images), device=images.device)
        else:
            for part in parts:
                yield self.images, which[part]

    def _pad(self, images: Tensor) -> Tensor:
        add_padding = _pad_by_reflection if self.augment == "alternating" else _pad_with_zeros
        return add_padding(images, self.padding) if self.padding else images

    def draw(self, epoch: int) -> Draws:
        """The epoch's order, crops and flips, drawn on the CPU and moved to the device in one go."""
        return self._move(self._draw(epoch))

    def _draw(self, epoch: int) -> Indices:
        """(4, N): what Draws has."""
        n = len(self.data.train)
        order = stream(self.seed, "order", epoch).permutation(n)
        random = stream(self.seed, "augment", epoch)
        corners = random.integers(0, 2 * self.padding + 1, size=(2, n))
        flips = self._draw_flips(epoch, order, random) & self.data.flips
        return np.stack([order, *corners, flips])

    def _move(self, drawn: Indices) -> Draws:
        which, top, left, flip = torch.from_numpy(drawn).to(self.data.train.images.device)
        return Draws(which, top, left, flip.bool())

    def _draw_flips(self, epoch: int, order: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.bool_]:
        if self.augment == "alternating":
            first = stream(self.seed, "flip").random(len(order)) < 0.5
            return first[order] ^ (epoch % 2 == 1)
        return random.random(len(order)) < 0.5


def _pad_with_zeros(images: Tensor, padding: int) -> Tensor:
    return pad(images, (0, 0, padding, padding, padding, padding))


def _pad_by_reflection(images: Tensor, padding: int) -> Tensor:
    """The pixels beyond an edge are those before it, the edge itself not repeated."""
    padded = _pad_with_zeros(images, padding)
    for axis in (1, 2):
        last = padded.shape[axis] - 1
        for i in range(padding):
            padded.select(axis, i).copy_(padded.select(axis, 2 * padding - i))
            padded.select(axis, last - i).copy_(padded.select(axis, last - 2 * padding + i))
    return padded


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
