"""Pre-activation ResNet-18 (He et al. 2016b, "Identity Mappings") with the CIFAR stem: BatchNorm and ReLU come first.

As in the code most CIFAR papers share (the Mixup authors' among them), a shortcut that changes shape is a 1x1
convolution of the activated input. Deviation: BatchNorm and ReLU after the last block, as in the paper, where that
code leaves them out.
"""

from torch import Tensor, nn
from torch.nn.functional import relu

from bench.model.resnet import classifier, conv3x3, draw_convolutions
from bench.model.stochastic_depth import StochasticDepth, linear_decay


class PreActBlock(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, twice; dropout before the second, where wide ResNets have it."""

    def __init__(
        self, channels: int, width: int, stride: int, dropout: float = 0.0, stochastic_depth: float = 0.0
    ) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), conv3x3(channels, width, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), conv3x3(width, width)
        self.dropout, self.depth = nn.Dropout(dropout), StochasticDepth(stochastic_depth)
        changes = stride != 1 or channels != width
        self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) to (N, width, H/stride, W/stride)."""
        active = relu(self.bn1(x))
        residual = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.depth(self.conv2(self.dropout(relu(self.bn2(self.conv1(active))))))
        return out + residual


class PreActResNet18(nn.Sequential):
    """11.2 million weights; dropout before the classifier, stochastic depth of the blocks."""

    def __init__(self, channels: int, classes: int, dropout: float, stochastic_depth: float = 0.0) -> None:
        layers: list[nn.Module] = [conv3x3(channels, 64)]
        before, depths = 64, iter(linear_decay(stochastic_depth, 8))
        for width, first_stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            for stride in (first_stride, 1):
                layers.append(PreActBlock(before, width, stride, stochastic_depth=next(depths)))
                before = width
        super().__init__(*layers, nn.BatchNorm2d(before), nn.ReLU(), *classifier(before, classes, dropout))
        draw_convolutions(self)
