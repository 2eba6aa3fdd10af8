"""A model's running state: how to keep it through a pass that is not to count, and BatchNorm's how to make it anew."""

from collections.abc import Collection, Iterable, Iterator
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


def has_statistics(model: nn.Module) -> bool:
    """Whether a model in training mode has BatchNorm that tracks statistics; it is put into that mode."""
    return bool(_find_tracking(model))


def _find_tracking(model: nn.Module) -> list[_BatchNorm]:
    model.train()
    found = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    return [module for module in found if module.training]  # a model may keep its own in evaluation mode


@torch.no_grad()
def remake_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Makes BatchNorm's statistics anew: the means over batches of images of what each batch has.

    The model is in training mode afterwards. Other running state stays as it was, and so do the statistics of layers
    that a model keeps in evaluation mode, or does not call. Without BatchNorm there is no pass.

    Source: Izmailov et al. 2018, sect. 3.2. Equals torch.optim.swa_utils.update_bn (tested), which waits for the device
    in each layer: its momentum of None is read off a counter there.
    """
    tracking = _find_tracking(model)
    if not tracking:
        return
    momenta, calls = [module.momentum for module in tracking], dict.fromkeys(tracking, 0)

    def count(module: _BatchNorm, _: object) -> None:
        if calls[module] == 0:
            module.reset_running_stats()
        calls[module] += 1
        module.momentum = 1 / calls[module]

    hooks = [module.register_forward_pre_hook(count) for module in tracking]
    try:
        with kept_buffers([*model.modules()], tracking):
            for images in batches:
                model(images)
    finally:
        for hook, module, momentum in zip(hooks, tracking, momenta, strict=True):
            hook.remove()
            module.momentum = momentum


def _is_writable(buffer: Tensor) -> bool:
    return buffer.layout is torch.strided and 0 not in buffer.stride() and not buffer.is_inference()
