"""Symmetric label noise: a share of the labels is replaced by another class, each of the others as likely.

So `share` is the share of labels that are wrong. Source: the "symmetry flipping" of Han et al. 2018, "Co-teaching",
and of Patrini et al. 2017, "Making Deep Neural Networks Robust to Label Noise".
Deviations: exactly that share is wrong, to an image, instead of each label by a coin. Others, as Zhang et al. 2017,
"Understanding deep learning requires rethinking generalization", and Mixup's authors, draw from all K classes, the true
one, too: their p is our p * (K - 1) / K.
"""

import numpy as np
from numpy.typing import NDArray

from bench.rng import stream

Labels = NDArray[np.int64]


def add_label_noise(labels: Labels, chosen: Labels, share: float, classes: int, seed: int) -> Labels:
    """The labels of the chosen images, a share of them wrong.

    Each image has its rank and its wrong label by `seed` and its index alone: what is wrong at a share is as wrong at
    each larger one.

    Args:
        labels: (N,), the true ones, in [0, classes).
        chosen: indices of images.
        share: in [0, 1); 0 leaves all labels as they are.
        classes: K, at least 2.
        seed: of the split.
    """
    random = stream(seed, "label_noise")
    rank, step = random.random(len(labels)), random.integers(1, classes, len(labels))
    wrong = chosen[np.argsort(rank[chosen], kind="stable")[: round(share * len(chosen))]]
    given = labels.astype(np.int64)
    given[wrong] = (given[wrong] + step[wrong]) % classes
    return given[chosen]
