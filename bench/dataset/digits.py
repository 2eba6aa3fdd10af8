"""Handwritten digits (Alpaydin & Kaynak 1998), 8x8 grey: they come with scikit-learn, so nothing is downloaded."""

import hashlib

import numpy as np

from bench.dataset import Source, stratified_order

_TEST_IMAGES = 1000


def load_digits() -> Source:
    """797 training and 1,000 test images: the original has one split, so the test split is stratified and fixed."""
    from sklearn.datasets import load_digits as load

    digits = load()
    images = digits.images.astype(np.uint8)[..., None]  # grey values 0 to 16
    labels = digits.target.astype(np.int64)
    test, train = np.split(stratified_order(labels), [_TEST_IMAGES])
    return Source(
        images[train],
        labels[train],
        images[test],
        labels[test],
        classes=10,
        flips=False,
        fingerprint=hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
    )
