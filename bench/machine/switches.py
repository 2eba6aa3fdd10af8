"""torch's switches for the whole process: what fp32 means, and whether equal commands give equal rows."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch

_CUDNN, _MATMUL = torch.backends.cudnn, torch.backends.cuda.matmul
# Those of torch 2.9 and later, which outrank the older ones where a user's code has set them.
_NEWER: tuple[Any, ...] = (_MATMUL, getattr(_CUDNN, "conv", None), getattr(_CUDNN, "rnn", None))
_PRECISIONS = [each for each in _NEWER if hasattr(each, "fp32_precision")]


def set_switches(*, deterministic: bool) -> None:
    """fp32 is IEEE float32, without TF32; `deterministic` gives equal rows for equal commands on CUDA, too."""
    _MATMUL.allow_tf32 = _CUDNN.allow_tf32 = False
    for each in _PRECISIONS:
        each.fp32_precision = "ieee"
    _CUDNN.benchmark = not deterministic
    torch.use_deterministic_algorithms(deterministic)


def read_switches() -> Iterator[tuple[Any, str, Any]]:
    """Where each switch is, its name and its value, in the order in which they are to be set again.

    An older one cannot be read where the newer ones were set apart from it.
    """
    older = [(_CUDNN, "benchmark"), (_CUDNN, "allow_tf32"), (_MATMUL, "allow_tf32")]
    for owner, name in (*older, *((each, "fp32_precision") for each in _PRECISIONS)):
        with suppress(RuntimeError):
            yield owner, name, getattr(owner, name)
