"""Confidence penalty: cross-entropy less a share of the entropy of the predictions, so that sure ones cost.

Source: Pereyra et al. 2017, "Regularizing Neural Networks by Penalizing Confident Output Distributions", sect. 3:
L = CE - beta · H(p). Deviations: none in the arithmetic; the forms with a threshold and with annealing are not here.
The value may be negative, and is no NLL: regbench scores NLL apart. Soft targets, as of mixing, are those of CE.
"""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.config.ranges import NOT_NEGATIVE


def entropy(logits: Tensor) -> Tensor:
    """Entropies (N,) in nats of the probabilities of logits (N, K)."""
    logs = logits.log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1)


@dataclass(frozen=True)
class ConfidencePenalty:
    """Mean cross-entropy less `beta`, at least 0, times the mean entropy. Reduces to cross-entropy at 0."""

    beta: Annotated[float, NOT_NEGATIVE]

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Scalar loss of logits (N, K) against targets (N, K)."""
        return cross_entropy(logits, targets) - self.beta * entropy(logits).mean()
