"""Residual networks (He et al. 2016) in their two forms for small images.

CifarResNet is the paper's CIFAR family, sect. 4.2: depth 6n + 2, widths 16, 32 and 64, shortcuts without parameters
(option A: every second pixel, zeros for the new channels). ResNet18 is the ImageNet net with a 3x3 stem at full
resolution, as CIFAR papers use it. Convolutions are drawn as in He et al. 2015 (fan-out); dropout, 0 unless set, comes
before the classifier, where timm has it; stochastic depth, 0 unless set, is that of the blocks.
"""

from typing import Annotated

from torch import Tensor, nn
from torch.nn.functional import pad, relu

from bench.config.ranges import COUNT
from bench.model.stochastic_depth import StochasticDepth, linear_decay


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; where shapes change it is a projection (B) or padded (A)."""

    def __init__(self, channels: int, width: int, stride: int, stochastic_depth: float = 0.0, *, project: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv3x3(width, width), nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            projection = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            self.shortcut = projection if project else _PaddedShortcut(stride, width - channels)
        self.depth = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) to (N, width, H/stride, W/stride)."""
        out = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(self.depth(out) + self.shortcut(x))


class _PaddedShortcut(nn.Module):
    def __init__(self, stride: int, new_channels: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, new_channels

    def forward(self, x: Tensor) -> Tensor:
        before = self.new_channels // 2
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))


class ResNet(nn.Sequential):
    """Stem, stages of basic blocks (every stage but the first halves the resolution), pooling, dropout, classifier."""

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: tuple[int, ...],
        blocks: int,
        dropout: float,
        stochastic_depth: float,
        *,
        project: bool,
    ) -> None:
        depths = iter(linear_decay(stochastic_depth, len(widths) * blocks))
        layers: list[nn.Module] = [conv3x3(channels, widths[0]), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        before = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(BasicBlock(before, width, stride, next(depths), project=project))
                before = width
        super().__init__(*layers, *classifier(before, classes, dropout))
        draw_convolutions(self)


class CifarResNet(ResNet):
    """He's CIFAR family: depth 20 has 0.27 million weights."""

    def __init__(
        self,
        channels: int,
        classes: int,
        depth: Annotated[int, COUNT],
        dropout: float,
        stochastic_depth: float = 0.0,
    ) -> None:
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 with n >= 1 (8, 14, 20, 32, ...), got {depth}")
        super().__init__(channels, classes, (16, 32, 64), (depth - 2) // 6, dropout, stochastic_depth, project=False)


class ResNet18(ResNet):
    """ResNet-18 with the CIFAR stem: 11.2 million weights."""

    def __init__(self, channels: int, classes: int, dropout: float, stochastic_depth: float = 0.0) -> None:
        super().__init__(channels, classes, (64, 128, 256, 512), 2, dropout, stochastic_depth, project=True)


def conv3x3(channels: int, width: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the resolution but for its stride; BatchNorm makes a bias needless."""
    return nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)


def classifier(width: int, classes: int, dropout: float) -> tuple[nn.Module, ...]:
    """Global average pooling, dropout and a linear layer."""
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, classes)


def draw_convolutions(model: nn.Module) -> None:
    """Draws the convolutions as He et al. 2015: normal, variance 2 / fan-out."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
