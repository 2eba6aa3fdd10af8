"""EMA: what is evaluated is an exponential moving average of the weights, moved after each step.

Source: Polyak's averaging as Tarvainen & Valpola 2017, sect. 2, and Morales-Brotons et al. 2024 have it, average =
decay·average + (1 - decay)·weights, begun by the weights after the first step. Deviation: the decay warms up as in
TensorFlow's ExponentialMovingAverage, min(decay, (1 + t)/(10 + t)) where t weights are in the average: it never reaches
back over more than about a ninth of the steps, so that a short training does not end in the average of its beginning.
"""

from dataclasses import dataclass
from typing import Annotated

from bench.config.ranges import FRACTION


@dataclass(frozen=True)
class EMA:
    """An average that reaches back over about 1/(1 - decay) steps, decay in [0, 1).

    Reduces to the weights themselves at decay 0; BatchNorm's statistics are made anew there, too.
    """

    decay: Annotated[float, FRACTION]

    def __call__(self, step: int, steps: int, per_epoch: int) -> float:
        """How far the average moves to the weights after `step`, in (0, 1]."""
        return 1 - min(self.decay, (1 + step) / (10 + step))
