"""Optimizers are torch's own: conf/optimizer/<name>.yaml names the class and its values."""

from collections.abc import Iterable
from inspect import signature

from torch import nn
from torch.optim import Optimizer

from bench.config.own_code import make, resolve
from bench.config.settings import Choice


def make_optimizer(choice: Choice, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer over all parameters; weight decay, where it is set, acts on every one that is trained.

    Torch's own update all parameters in one call (`foreach`), unless the choice says how: on the CPU, too, where it
    gives the same weights to the last bit. Their fused forms do not: Adam's differs in the last digits.
    """
    target, values = resolve(choice.values["_target_"]), choice.values
    takes = target.__module__.startswith("torch.optim.") and "foreach" in signature(target).parameters
    if takes and not {"foreach", "fused"} & values.keys():
        values = {**values, "foreach": True}
    optimizer: Optimizer = make(values, parameters, path=f"optimizer.{choice.name}")
    return optimizer
