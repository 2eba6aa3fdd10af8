"""A multilayer perceptron: two hidden layers with ReLU, dropout after each (Srivastava et al. 2014)."""

from typing import Annotated

from torch import nn

from bench.config.ranges import COUNT


class MLP(nn.Sequential):
    """Flattens images of any size: the first layer takes its input's size from the first batch that it sees."""

    def __init__(self, channels: int, classes: int, width: Annotated[int, COUNT], dropout: float) -> None:
        super().__init__(
            nn.Flatten(),
            nn.LazyLinear(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, classes),
        )
