"""Separable classes of tiny images, made on the spot: each class is a fixed random pattern, plus noise per pixel."""

import numpy as np
from numpy.typing import NDArray

from bench.dataset import Source
from bench.rng import stream


def load_synthetic(
    image_size: int, channels: int, classes: int, train_images: int, test_images: int, noise: float
) -> Source:
    """Balanced splits; the images are a function of the arguments alone. noise is in units of the full grey range."""
    random = stream(0, "synthetic")
    patterns = random.random((classes, image_size, image_size, channels))

    def make_images(n: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        labels = np.arange(n, dtype=np.int64) % classes
        images = patterns[labels] + noise * random.standard_normal((n, *patterns.shape[1:]))
        return (255 * images.clip(0, 1)).round().astype(np.uint8), labels

    return Source(*make_images(train_images), *make_images(test_images), classes, flips=False)
