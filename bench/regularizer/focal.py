"""Focal loss: cross-entropy in which a sample weighs the less, the surer its class is.

Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", eq. 4, for K classes by softmax as in Mukhoti et al.
2020, "Calibrating Deep Neural Networks using Focal Loss": -(1 - p)^gamma · log p of the sample's class.
Deviations: Lin et al. have a sigmoid for each class, and weights of classes (their alpha), which are not here; nor is a
gamma that depends on the sample (FLSD of Mukhoti et al.). Targets may be soft, which neither has: the losses of the
classes are averaged by them, so that after mixing it is the mix of the two labels' losses. The value is no NLL:
regbench scores NLL apart.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.config.ranges import NOT_NEGATIVE


def focal_weights(logits: Tensor, gamma: float) -> Tensor:
    """The weights (1 - p)^gamma, in [0, 1], of the probabilities of logits (N, K), gamma at least 0.

    1 - p is kept above 0, where the derivative of the power is infinite if gamma is below 1.
    """
    others = -logits.log_softmax(dim=1).expm1()  # 1 - p, exact where p is near 1
    return others.clamp_min(torch.finfo(others.dtype).tiny) ** gamma


@dataclass(frozen=True)
class Focal:
    """Mean focal loss in nats. Reduces to cross-entropy at gamma 0."""

    gamma: Annotated[float, NOT_NEGATIVE]

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Scalar loss of logits (N, K) against targets (N, K)."""
        return cross_entropy(logits, targets * focal_weights(logits, self.gamma))
