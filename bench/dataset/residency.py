"""Whether a run's images lie in memory, or are read from their file batch by batch. No number depends on it."""

from collections.abc import Sequence
from math import prod

import torch

from bench.config.settings import Choice
from bench.errors import UsageError
from bench.machine.free_memory import find_free_memory

_COPIES = 3  # of the images: the data set's, those in splits, and those padded for crops


def is_resident(choice: Choice, shape: Sequence[int], device: torch.device) -> bool:
    """As `dataset.resident` says; by itself where three times the images fit in the memory that is free.

    Args:
        choice: of the data set.
        shape: of the images of all splits together, (N, H, W, C).
        device: the run's; of a GPU its own memory counts, too.
    """
    resident: bool | None = choice.values["resident"]
    if resident is not None:
        return resident
    free = find_free_memory()
    if device.type == "cuda":
        free = min(free, torch.cuda.mem_get_info(device)[0])
    return _COPIES * prod(shape) <= free


def check_memory(choice: Choice, shape: Sequence[int]) -> None:
    """Raises UsageError where images are to lie in memory which cannot hold them even once."""
    size, free = prod(shape), find_free_memory()
    if choice.values["resident"] and size > free:
        n, height, width, channels = shape
        raise UsageError(
            f"dataset.resident=true: {n:,} images of {width}x{height}x{channels} are {size / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB of memory are free.\n"
            "Leave it out: images that do not fit are read from the disk, batch by batch."
        )
