"""Handwritten digits (Alpaydin & Kaynak 1998), 8x8 grey: they come with scikit-learn, so nothing is downloaded."""

import hashlib
from importlib.metadata import distribution

import numpy as np

from bench.dataset import Source, stratified_order

_TEST_IMAGES = 1000


def load_digits() -> Source:
    """797 training and 1,000 test images: the original has one split, so the test split is stratified and fixed.

    scikit-learn's file is read without importing it, which takes a second of each process.
    """
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(str(file), np.uint8, delimiter=",")  # a row per image: its pixels, then its class
    images = table[:, :-1].reshape(-1, 8, 8, 1)  # grey values 0 to 16
    labels = table[:, -1].astype(np.int64)
    test, train = np.split(stratified_order(labels), [_TEST_IMAGES])
    return Source(
        images[train],
        labels[train],
        images[test],
        labels[test],
        classes=10,
        flips=False,
        fingerprint=hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
        class_names=[str(digit) for digit in range(10)],
    )
