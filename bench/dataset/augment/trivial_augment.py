"""TrivialAugment, wide (Müller & Hutter 2021): one operation of fourteen and one strength of 31 for each image.

All are equally likely. Operations are equal to those of torchvision's TrivialAugmentWide (v2) within a grey level. What
we do differently: it comes after crop and flip, as in torchvision's recipes, where the authors' code for CIFAR has it
before them, and Cutout after; and the images of one operation are transformed together.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.dataset.augment.operations import BINS, OPERATIONS
from bench.errors import UsageError

_WHITE = 128  # at least; the digits' white is 16


class TrivialAugment:
    """An epoch's operations and strengths; called with some of its images, it transforms these."""

    def __init__(self, shape: torch.Size, random: np.random.Generator, device: torch.device) -> None:
        """Draws for `shape`, (N, C, H, W), of all images of an epoch."""
        n = shape[0]
        strengths = np.stack([operation.strengths for operation in OPERATIONS.values()])
        signed = np.array([operation.signed for operation in OPERATIONS.values()])
        self.operation = random.integers(len(OPERATIONS), size=n)  # stays on the CPU, which forms the groups
        drawn = strengths[self.operation, random.integers(BINS, size=n)]
        negative = (random.random(n) < 0.5) & signed[self.operation]
        self.strength = torch.from_numpy(np.where(negative, -drawn, drawn)).to(device)

    @staticmethod
    def check(images: NDArray[np.uint8]) -> None:
        """Raises UsageError where these (N, H, W, C) are not of the kind that the operations are made for."""
        channels, brightest = images.shape[-1], images.max()
        if channels not in (1, 3):
            reason, mend = f"images of 1 or 3 channels, and these have {channels}", "Choose another dataset.augment"
        elif brightest < _WHITE:
            reason = f"pixels from 0 to 255, and none of these is above {brightest}"
            mend = "Choose another dataset.augment, or scale images of your own"
        else:
            return
        raise UsageError(f"dataset.augment=trivial_augment is for {reason}.\n{mend}.")

    def __call__(self, images: Tensor, part: slice) -> Tensor:
        """The images (uint8, (n, H, W, C)) at these positions of the epoch, transformed."""
        operation = self.operation[part]
        by_operation = operation.argsort(kind="stable")
        orders = np.stack([by_operation, by_operation.argsort()])
        order, back = torch.from_numpy(orders).to(images.device, non_blocking=True)
        sizes = np.bincount(operation, minlength=len(OPERATIONS)).tolist()
        # Images are taken by index_select, which copies each as a whole: on the CPU 20 times as fast as by brackets.
        groups = (torch.split(each.index_select(0, order), sizes) for each in (images, self.strength[part]))
        transformed = [each.apply(*group) for each, *group in zip(OPERATIONS.values(), *groups, strict=True)]
        return torch.cat(transformed).index_select(0, back)
