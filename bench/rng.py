"""Named random streams, each a pure function of (seed, name, position).

Streams are never carried along: the draws of epoch 7 do not depend on how many numbers epoch 6 used, so no method's
consumption shifts another's, and a checkpoint needs only the position. Names in use: init, slots and flip, order,
augment and policy (by epoch), erase, mixing, dropout, loss, gradient, optimizer and average (by step), statistics,
evaluate, probe, sample, lanczos, hutchinson, lines and noise (by batch), split, label_noise, load and synthetic (under
a fixed seed).
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator


def stream(seed: int, name: str, *position: int) -> np.random.Generator:
    """A fresh generator for the named stream at `position` (an epoch or a step)."""
    return np.random.default_rng(_entropy(seed, name, *position))


@contextmanager
def global_stream(
    device: torch.device, seed: int, name: str, *position: int, torch_only: bool = False
) -> Iterator[None]:
    """Seeds the global generators from the named stream, and puts them back at the end: torch's (the CPU's and
    `device`'s), NumPy's and Python's.

    Initialisation, dropout and a user's own code may know no others. This is the only place that touches them.

    Args:
        device: the run's.
        seed: the run's.
        name: of the stream.
        position: in the stream.
        torch_only: leaves NumPy's and Python's alone, which takes a third of the time.
    """
    entropy = _entropy(seed, name, *position) % 2**63
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(entropy)
        if cuda is not None:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(entropy)
        if torch_only:
            yield
        else:
            with kept_numpy_and_python():
                np.random.seed(entropy % 2**32)  # noqa: NPY002
                random.seed(entropy)
                yield
    finally:
        torch.default_generator.set_state(state)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)


class _Bits(np.random.MT19937):
    """What NumPy's global functions draw from within `kept_numpy_and_python`."""


_spare: list[_Bits] = []  # to make one takes 0.15 ms


@contextmanager
def kept_numpy_and_python() -> Iterator[None]:
    """Puts NumPy's and Python's global generators back at its end.

    NumPy's gets other bits to draw from meanwhile: to read and to set its state takes 0.1 ms, so only the outermost
    context does, for the sake of the second normal of a pair, which NumPy keeps beside the bits.
    """
    python, bits = random.getstate(), get_bit_generator()
    numpy = None if isinstance(bits, _Bits) else np.random.get_state()  # noqa: NPY002
    ours = _spare.pop() if _spare else _Bits(0)
    set_bit_generator(ours)
    try:
        yield
    finally:
        set_bit_generator(bits)
        if numpy is not None:
            np.random.set_state(numpy)  # noqa: NPY002
        _spare.append(ours)
        random.setstate(python)


def _entropy(seed: int, name: str, *position: int) -> int:
    text = "/".join(map(str, (seed, name, *position)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
