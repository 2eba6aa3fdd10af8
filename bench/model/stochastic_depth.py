"""Stochastic depth: in training, a residual block's branch is left out at random, more often the deeper it lies.

Source: Huang et al. 2016, "Deep Networks with Stochastic Depth", sect. 3, with its linear decay rule: of L blocks the
l-th is left out with l/L times the last one's probability. Deviations, both as in timm and torchvision: each image has
a draw of its own, where the paper leaves a block out for a whole batch, so no time is saved; and a branch that is kept
is divided by the probability of being so in training, where the paper multiplies by it in evaluation. The rule of timm
begins with 0 at the first block, the paper's at the input. It draws as dropout does: in a stack with it dropout's masks
are others than without.
"""

from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Leaves a branch out with `probability` in [0, 1), by torch's generator. Reduces to the branch at 0, where nothing
    is drawn."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """A branch's output (N, ...), in training of some images 0 and of the others 1 / (1 - probability) times it."""
        if not self.training or self.probability == 0:
            return branch
        kept = branch.new_empty((len(branch), *[1] * (branch.ndim - 1))).bernoulli_(1 - self.probability)
        return branch * kept.div_(1 - self.probability)

    def extra_repr(self) -> str:
        """What a printed model shows of it."""
        return f"probability={self.probability:g}"


def linear_decay(last: float, blocks: int) -> list[float]:
    """The probability of each of so many blocks, of which the last has `last`."""
    return [last * (block + 1) / blocks for block in range(blocks)]
