"""The learning rates of an optimizer's groups: each its own, times one factor for all, which the schedule gives."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from bench.regularizer import Average, SetsLearningRate
from bench.training.schedule import lr_factor


def base_lr(group: dict[str, Any]) -> float:
    """A group's learning rate before the factor, as it is when the group is first seen."""
    if "base_lr" not in group:  # once: to read a rate that is a tensor waits for the device
        group["base_lr"] = float(group["lr"])
    return float(group["base_lr"])


def largest_lr(optimizer: Optimizer) -> float:
    """Of the optimizer's groups, before the factor."""
    return max(map(base_lr, optimizer.param_groups))


def scale_lrs(optimizer: Optimizer, factor: float) -> None:
    """Sets the learning rate of each of the optimizer's groups to its own times `factor`."""
    for group in optimizer.param_groups:
        lr = base_lr(group)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr * factor)
        else:
            group["lr"] = lr * factor


def plan_factors(
    optimizer: Optimizer, average: Average, schedule: str, steps: int, warmup_steps: int
) -> Callable[[int], float]:
    """The factor at each of a run's steps: the schedule's, or what makes the largest rate the one of the average."""
    own = average if isinstance(average, SetsLearningRate) else None

    def factor(step: int) -> float:
        lr = own.learning_rate(step, steps) if own else None
        return lr_factor(schedule, step, steps, warmup_steps) if lr is None else lr / largest_lr(optimizer)

    return factor
