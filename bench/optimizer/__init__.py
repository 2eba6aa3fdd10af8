"""Optimizers are torch's own: conf/optimizer/<name>.yaml names the class and its values."""

from collections.abc import Iterable
from inspect import signature

from torch import nn
from torch.optim import Optimizer

from bench.plugins import resolve
from bench.settings import Choice, make


def make_optimizer(choice: Choice, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer over all parameters; weight decay, where it is set, acts on every one of them.

    Torch's own update all parameters in one call (`foreach`): on the CPU, too, where it gives the same weights to the
    last bit. Its fused forms do not: Adam's differs in the last digits.
    """
    target = resolve(choice.values["_target_"])
    has_foreach = target.__module__.startswith("torch.optim.") and "foreach" in signature(target).parameters
    values = {**choice.values, "foreach": True} if has_foreach else choice.values
    optimizer: Optimizer = make(values, parameters)
    return optimizer
