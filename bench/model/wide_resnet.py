"""Wide residual networks (Zagoruyko & Komodakis 2016): WRN-depth-width, dropout between a block's convolutions."""

from typing import Annotated

from torch import nn

from bench.config.ranges import COUNT
from bench.model.preact_resnet import PreActBlock
from bench.model.resnet import classifier, conv3x3, draw_convolutions
from bench.model.stochastic_depth import linear_decay


class WideResNet(nn.Sequential):
    """Depth 6n + 4, widths 16·width, 32·width and 64·width; WRN-28-10 has 36.5 million weights."""

    def __init__(
        self,
        channels: int,
        classes: int,
        depth: Annotated[int, COUNT],
        width: Annotated[int, COUNT],
        dropout: float,
        stochastic_depth: float = 0.0,
    ) -> None:
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth must be 6n + 4 with n >= 1 (10, 16, 22, 28, ...), got {depth}")
        layers: list[nn.Module] = [conv3x3(channels, 16)]
        before, blocks = 16, (depth - 4) // 6
        depths = iter(linear_decay(stochastic_depth, 3 * blocks))
        for stage_width, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            for block in range(blocks):
                layers.append(PreActBlock(before, stage_width, stride if block == 0 else 1, dropout, next(depths)))
                before = stage_width
        super().__init__(*layers, nn.BatchNorm2d(before), nn.ReLU(), *classifier(before, classes, 0.0))
        draw_convolutions(self)
