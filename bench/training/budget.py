"""How many steps a run has, and what it costs in gradient evaluations: forward and backward passes of a batch.

An average of the weights costs a pass over the training images at the end, where the model has BatchNorm: its
statistics are made anew. Each batch of that pass counts as one evaluation, though it has no backward pass: rather too
much than too little. A budget pays for it, too. The passes for a curve of validation do not count, as validation does
not: nothing that is evaluated at the end depends on them.
"""

from fractions import Fraction
from math import ceil

from bench.config.settings import Train
from bench.regularizer import Average, no_average


def count_evaluations(steps: int, evaluations_per_step: int | Fraction) -> int:
    """Gradient evaluations of the first so many steps."""
    return ceil(steps * evaluations_per_step)


def evaluations_at_end(average: Average, has_statistics: bool, steps_per_epoch: int) -> int:
    """Gradient evaluations that come after the last step."""
    return steps_per_epoch if has_statistics and average is not no_average else 0


def total_steps(train: Train, steps_per_epoch: int, evaluations_per_step: int | Fraction, at_end: int = 0) -> int:
    """Steps of a run: all of its epochs, or as many as its budget of gradient evaluations pays for."""
    if train.gradient_evaluations is not None:
        return int(max(train.gradient_evaluations - at_end, 0) // evaluations_per_step)
    return train.epochs * steps_per_epoch


def warmup_steps(train: Train, steps_per_epoch: int) -> int:
    """Steps of linear warm-up."""
    return round(train.warmup_epochs * steps_per_epoch)
