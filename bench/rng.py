"""Named random streams, each a pure function of (seed, name, position).

Streams are never carried along: the draws of epoch 7 do not depend on how many numbers epoch 6 used, so no method's
consumption shifts another's, and a checkpoint needs only the position. Names in use: init and flip, order and augment
(by epoch), mixing and dropout (by step), split and synthetic (under a fixed seed).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def stream(seed: int, name: str, *position: int) -> np.random.Generator:
    """A fresh generator for the named stream at `position` (an epoch or a step)."""
    return np.random.default_rng(_entropy(seed, name, *position))


@contextmanager
def global_stream(device: torch.device, seed: int, name: str, *position: int) -> Iterator[None]:
    """Seeds torch's global generators (the CPU's and `device`'s) from the named stream, and puts them back at the end.

    Initialisation and dropout know no other generator than the global ones. This is the only place that touches them.
    """
    entropy = _entropy(seed, name, *position) % 2**63
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.default_generator.manual_seed(entropy)
        for each in cuda:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(entropy)
        yield


def _entropy(seed: int, name: str, *position: int) -> int:
    text = "/".join(map(str, (seed, name, *position)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
