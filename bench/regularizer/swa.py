"""SWA, stochastic weight averaging: what is evaluated is the mean of the weights at the ends of the last epochs.

Source: Izmailov et al. 2018, algorithm 1, with a cycle of one epoch, and the authors' code: the first weights of the
mean are those at the end of the first epoch that ends at or after the start. Deviations: the learning rate is the
schedule's to the end, or jumps to the constant one at the start, where the authors' code slopes down to it before; and
the last epoch counts as the others do where a budget cuts it short.
"""

from dataclasses import dataclass
from math import ceil
from typing import Annotated

from bench.config.ranges import SHARE, Range


@dataclass(frozen=True)
class SWA:
    """The mean over epochs' ends from `start` on, a share of the steps in [0, 1]; before, the weights are evaluated.

    `lr` is the learning rate from there on, above 0; None: the schedule's. Reduces to the last weights at start 1, at
    which no step has that rate; BatchNorm's statistics are made anew there, too.
    """

    start: Annotated[float, SHARE]
    lr: Annotated[float | None, Range(low=0, low_open=True, optional=True)]

    def __call__(self, step: int, steps: int, per_epoch: int) -> float:
        """How far the average moves to the weights after `step`: 1/n for the n-th that are in it, else 0."""
        done = step + 1
        if done % per_epoch and done != steps:
            return 0.0
        first = max(ceil(self._first(steps) / per_epoch), 1)  # the epoch, from 1, whose end is the first in the mean
        number = ceil(done / per_epoch) - first + 1
        return 1 / number if number > 0 else 0.0

    def learning_rate(self, step: int, steps: int) -> float | None:
        """Of a step; None: the schedule's."""
        return self.lr if step >= self._first(steps) else None

    def _first(self, steps: int) -> int:
        """Steps before the start."""
        return round(self.start * steps)
