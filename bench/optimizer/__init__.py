"""Optimizers are torch's own: conf/optimizer/<name>.yaml names the class and its values."""

from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

from bench.settings import Choice, make


def make_optimizer(choice: Choice, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer over all parameters; weight decay, where it is set, acts on every one of them."""
    optimizer: Optimizer = make(choice.values, parameters)
    return optimizer
