"""A model's running state, and how to keep it as it is through a pass that is not to count."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.config.own_code import is_published

_TRACKED = frozenset({"running_mean", "running_var", "num_batches_tracked"})


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keeps a model's running state as it is, while BatchNorm still normalises batches by their own statistics.

    BatchNorm is kept from tracking, at no cost: the usual `momentum = 0` would count the batch twice, and turn an
    infinite batch into NaN statistics. All other buffers are put back.
    """
    modules = list(model.modules())
    tracking = [m for m in modules if isinstance(m, _BatchNorm) and m.track_running_stats]
    obeying = {m for m in tracking if is_published(type(m).forward.__module__)}  # a user's own may track nevertheless
    try:
        for module in tracking:
            module.track_running_stats = False
        with kept_buffers(modules, obeying):
            yield
    finally:
        for module in tracking:
            module.track_running_stats = True


@contextmanager
def kept_buffers(modules: Collection[nn.Module], untracked: Collection[nn.Module] = ()) -> Iterator[None]:
    """Puts the modules' own buffers back at its end, bit for bit: those written in place, and those replaced.

    Args:
        modules: as `model.modules()` gives them.
        untracked: those whose BatchNorm statistics stay by themselves.
    """
    held = [(m._buffers, _TRACKED if m in untracked else ()) for m in modules if m._buffers]
    kept = [(now, name, now[name]) for now, but in held for name in now if name not in but]
    # Where all entries share memory, or an evaluation has left it, a tensor cannot be written, but only replaced.
    written = [buffer for _, _, buffer in kept if buffer is not None and _is_writable(buffer)]
    copies = [buffer.clone() for buffer in written]
    try:
        yield
    finally:
        for now, name, buffer in kept:
            now[name] = buffer
        if written:
            with torch.no_grad():
                torch._foreach_copy_(written, copies)


def _is_writable(buffer: Tensor) -> bool:
    return buffer.layout is torch.strided and 0 not in buffer.stride() and not buffer.is_inference()
