"""Label smoothing: cross-entropy against targets that are pulled towards the uniform distribution.

Source: Szegedy et al. 2016, "Rethinking the Inception Architecture", sect. 7: y' = (1 - s)·y + s/K. Some code spreads
s over the K - 1 other classes instead: another method. The value of this loss is no NLL: regbench scores NLL apart,
on hard labels.
"""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.config.ranges import FRACTION


def smooth(targets: Tensor, smoothing: float) -> Tensor:
    """Targets (N, K) pulled towards 1/K by `smoothing` in [0, 1). Reduces to the targets at 0."""
    return targets * (1 - smoothing) + smoothing / targets.shape[1]


@dataclass(frozen=True)
class LabelSmoothing:
    """Mean cross-entropy in nats against smoothed targets. Reduces to cross-entropy at 0."""

    smoothing: Annotated[float, FRACTION]

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Scalar loss of logits (N, K) against targets (N, K)."""
        return cross_entropy(logits, smooth(targets, self.smoothing))
