"""What the small copies of torchvision's sets are made of: labels, arrays, pictures, checksums."""

import hashlib

import numpy as np
from PIL import Image

N = {"train": 4, "test": 2, "val": 1, "": 8}
K = 3


def labels_of(split, classes=K, first=0):
    """In no order of classes."""
    return np.tile(np.arange(first, first + classes), N[split])


def grey(labels, *shape):
    """uint8 (N, *shape)."""
    return np.broadcast_to((20 * labels + 10).astype(np.uint8).reshape(-1, *[1] * len(shape)), (len(labels), *shape))


def draw(path, label, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (20 * label + 10,) * 3).save(path)
    return path


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()
