import math
from itertools import product
from unittest import mock

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import _augment

from bench.errors import UsageError
from bench.regularizer.random_erasing import RandomErasing

USUAL = {"scale": [0.02, 0.33], "ratio": [0.3, 3.3]}
HARD = {"scale": [0.5, 1.0], "ratio": [0.1, 10.0]}  # of which many do not fit


class Replayed:
    """torch for torchvision's transform, with given numbers in [0, 1) instead of its draws."""

    exp, tensor = torch.exp, torch.tensor

    def __init__(self, coin, tries, corner):
        self.coin, self.tries, self.corner = coin, iter(tries), iter(corner)

    def rand(self, _):
        return torch.tensor([self.coin], dtype=torch.float64)

    def empty(self, _):
        return self

    def uniform_(self, low, high):
        return torch.tensor(float(low) + next(self.tries) * (float(high) - float(low)), dtype=torch.float64)

    def randint(self, low, high, size):
        return torch.tensor(low + math.floor(next(self.corner) * (high - low)))


def erase_as_torchvision(images, seed, **values):
    """torchvision's own transform on each image, with the numbers that ours draws."""
    random, n = np.random.default_rng(seed), len(images)
    coins, shares, ratios = random.random(n), random.random((n, 10)), random.random((n, 10))
    corners = random.random((2, n))
    transform, erased = v2.RandomErasing(value=0, p=values.pop("probability"), **values), []
    for i, image in enumerate(images):
        tries = np.stack([shares[i], ratios[i]], axis=1).ravel()
        with mock.patch.object(_augment, "torch", Replayed(coins[i], tries, corners[:, i])) as replayed:
            kept = replayed.coin >= transform.p
            params = None if kept else transform.make_params([image])
        erased.append(image if kept else transform.transform(image, params))
    return torch.stack(erased)


@pytest.mark.parametrize("values", [USUAL, HARD], ids=["usual", "hard"])
@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (11, 20)])
def test_equals_torchvision_with_the_same_numbers(values, probability, height, width):
    images = torch.randn(200, 3, height, width)
    ours = RandomErasing(probability, **values)(images, np.random.default_rng(5))
    assert torch.equal(ours, erase_as_torchvision(images, 5, probability=probability, **values))


def test_area_shape_and_place_are_distributed_as_the_paper_says():
    """Of large images, so that rounding is small; the bounds are four standard errors."""
    n, height, width = 20_000, 400, 600
    method = RandomErasing(1.0, scale=[0.05, 0.25], ratio=[0.5, 2.0])
    top, left, bottom, right = method.draw_boxes(np.random.default_rng(0), n, height, width)
    high, wide = bottom - top, right - left
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (bottom <= height).all()
    assert (right <= width).all()
    for values, low, up in (
        (high * wide / (height * width), 0.05, 0.25),
        (np.log(high / wide), math.log(0.5), math.log(2)),
        (top / (height - high), 0, 1),
        (left / (width - wide), 0, 1),
    ):
        assert values.mean() == pytest.approx(
            (low + up) / 2, abs=4 * (up - low) / math.sqrt(12 * n) + 1e-3 * (up - low)
        )
        assert values.std() == pytest.approx((up - low) / math.sqrt(12), rel=0.02)


def test_probability_is_the_share_of_images_that_lose_a_rectangle():
    images = torch.ones(5000, 1, 16, 16)
    erased = (RandomErasing(0.3, **USUAL)(images, np.random.default_rng(0)) == 0).flatten(1).any(1)
    assert erased.float().mean().item() == pytest.approx(0.3, abs=0.026)


def test_an_image_that_no_try_fits_is_left_as_it_is():
    images = torch.ones(50, 1, 8, 8)
    erased = RandomErasing(1.0, scale=[0.87, 1.0], ratio=[1.0, 1.0])(images, np.random.default_rng(0))
    kept = {49 * (image == 0).any().item() for image in erased}
    assert kept == {0, 49} == {int((image == 0).sum()) for image in erased}  # 7x7, or none


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 30), (30, 5)])
def test_what_never_erases_is_refused_and_what_can_is_not(height, width):
    """Against a search through many ratios, at the least share."""
    ratios, refused = np.geomspace(0.01, 100, 20_001), 0
    for least, low, high in product((0.0, 0.5, 0.7, 0.8, 0.9, 1.0), (0.03, 0.3, 1.0), (1.0, 3.3, 9.0)):
        area = least * height * width
        within = ratios[(ratios >= low) & (ratios <= high)]
        fits = (np.rint(np.sqrt(area * within)) < height) & (np.rint(np.sqrt(area / within)) < width)
        erasing = RandomErasing(1.0, [least, 1.0], [low, high])
        try:
            erasing(torch.ones(1, 1, height, width), np.random.default_rng(0))
            assert fits.any(), (least, low, high)
        except ValueError:
            assert not fits.any(), (least, low, high)
            refused += 1
    assert 0 < refused < 54


def test_probability_0_reduces_to_the_images_and_the_draw_is_the_generators_alone():
    images = torch.randn(30, 3, 12, 9)
    before = images.clone()
    assert torch.equal(RandomErasing(0.0, **USUAL)(images, np.random.default_rng(0)), images)
    first, second, other = (RandomErasing(0.5, **USUAL)(images, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("probability", "1.5", r"a number in \[0, 1\]"),
        ("scale", "[0.1,2]", r"two of: a number in \[0, 1\]"),
        ("scale", "[0.3,0.1]", r"scale must be \[least, largest\]"),
        ("scale", "[1,1]", r"no rectangle of scale \[1(\.0)?, 1(\.0)?\] .* is smaller than 8x8"),
        ("ratio", "[0,1]", "two of: a number above 0"),
        ("ratio", "0.3", "two of: a number above 0"),
    ],
)
def test_a_bad_value_is_refused_before_training(key, value, allowed, plan):
    with pytest.raises(UsageError, match=allowed):
        plan("regularizer=random_erasing", f"regularizer.random_erasing.{key}={value}")
