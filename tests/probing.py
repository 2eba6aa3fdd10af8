"""A small net, data and batches to probe it with."""

import numpy as np
import pytest
import torch
from torch import nn

from bench.dataset import Data, Split
from bench.probe import passes

CHANNELS, CLASSES = 3, 4


def make_net(dtype=torch.float32):
    """With BatchNorm whose statistics are no neutral ones, dropout and pooling; in training mode."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(CHANNELS, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 3 * 4, CLASSES)),
    )
    net(2 * torch.randn(64, CHANNELS, 6, 8) + 1)
    return net.to(dtype)


def make_data(n=60, white=255, seed=0):
    """Classes that a net can tell apart, with H != W."""
    random = np.random.default_rng(seed)

    def make_split():
        labels = random.integers(CLASSES, size=n)
        images = random.integers(white // 2, size=(n, 6, 8, CHANNELS)) + (labels * white // 8)[:, None, None, None]
        images[0, 0, 0, 0] = white
        return Split(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels))

    train, test = make_split(), make_split()
    values = train.images.double()
    mean, std = values.mean((0, 1, 2)).float(), values.std((0, 1, 2)).float()
    return Data(train, train, test, CLASSES, False, mean, std)


def make_images(n=20, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, CHANNELS, 6, 8, generator=generator, dtype=dtype)
    return images, torch.randint(0, CLASSES, (n,), generator=generator)


@pytest.fixture
def small_batches(monkeypatch):
    """Batches of 7 images of 6x8 in colour."""
    monkeypatch.setattr(passes, "_VALUES", 7 * 6 * 8 * CHANNELS)
