"""A small convolutional net: three 3x3 convolutions with BatchNorm, pooling between, dropout before the classifier."""

from typing import Annotated

from torch import nn

from bench.config.ranges import COUNT


class ConvNet(nn.Sequential):
    """Widths w, 2w and 2w, each stage but the first at half the resolution; about 60,000 weights at w = 32."""

    def __init__(self, channels: int, classes: int, width: Annotated[int, COUNT], dropout: float) -> None:
        super().__init__(
            *_block(channels, width),
            nn.MaxPool2d(2),
            *_block(width, 2 * width),
            nn.MaxPool2d(2),
            *_block(2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, classes),
        )


def _block(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
