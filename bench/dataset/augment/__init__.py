"""What is done to images once they are cropped and flipped: a file per policy, each a word of dataset.augment.

A policy is a class. Made with the shape (N, C, H, W) of an epoch's images, a generator and the device, it draws for the
whole epoch, on the CPU. Called with images (uint8, (n, H, W, C), on the device) and their positions in the epoch, it
gives such images: each treated by itself, and nothing read from the device. A policy that is not for all images has a
`check` of them. Crops and flips themselves are in ../batches.py.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.dataset.augment.random_resized import RandomResized
from bench.dataset.augment.trivial_augment import TrivialAugment
from bench.dataset.rows import Rows

Transform = Callable[[Tensor, slice], Tensor]
POLICIES: dict[str, Callable[[torch.Size, np.random.Generator, torch.device], Transform]] = {
    "trivial_augment": TrivialAugment,
    "random_resized": RandomResized,
}
_LOOKED_AT = 1000


def draw_transform(augment: str, shape: torch.Size, random: np.random.Generator, device: torch.device) -> Transform:
    """An epoch's transform by `augment`; where that is no policy, images stay as they are."""
    if augment not in POLICIES:
        return lambda images, _: images
    return POLICIES[augment](shape, random, device)


def check_augment(augment: str, images: NDArray[np.uint8] | Rows) -> None:
    """Looks at about a thousand of the images (N, H, W, C).

    Raises:
        UsageError: the policy is not for such images.
    """
    check = getattr(POLICIES.get(augment), "check", None)
    if check is not None:
        check(images[:: len(images) // _LOOKED_AT + 1])
