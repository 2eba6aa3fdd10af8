import numpy as np
import pytest
import torch

from bench.errors import UsageError
from bench.regularizer.cutout import Cutout, erase


def cut_as_the_authors(image, length, y, x):
    """Their code's arithmetic, an image at a time: half of the length to each side of the centre, clipped."""
    height, width = image.shape[1:]
    mask = np.ones((height, width), np.float32)
    top, bottom = (np.clip(y + side * (length // 2), 0, height) for side in (-1, 1))
    left, right = (np.clip(x + side * (length // 2), 0, width) for side in (-1, 1))
    mask[top:bottom, left:right] = 0
    return image * torch.from_numpy(mask)


def draw_centres(seed, n, height, width):
    random = np.random.default_rng(seed)
    return random.integers(height, size=n), random.integers(width, size=n)


@pytest.mark.parametrize("size", [0, 2, 4, 8, 10])
def test_equals_the_authors_code_with_the_same_centres(size):
    images = torch.randn(40, 3, 6, 10)
    ours = Cutout(size)(images, np.random.default_rng(7))
    centres = zip(*draw_centres(7, 40, 6, 10), strict=True)
    theirs = [cut_as_the_authors(image, size, y, x) for image, (y, x) in zip(images, centres, strict=True)]
    assert torch.equal(ours, torch.stack(theirs))


@pytest.mark.parametrize("size", [1, 3, 4, 7])
def test_a_square_has_its_size_and_is_clipped_at_the_edges(size):
    images = torch.ones(500, 2, 9, 16)
    erased = Cutout(size)(images, np.random.default_rng(1)) == 0
    assert torch.equal(erased[:, 0], erased[:, 1])  # all channels
    rows, columns = erased[:, 0].any(2).sum(1), erased[:, 0].any(1).sum(1)
    assert torch.equal(erased[:, 0].sum((1, 2)), rows * columns)  # one box
    assert rows.max() == columns.max() == size
    assert rows.min() == columns.min() == size - size // 2  # with the centre in the first row or column, or the last
    centres = draw_centres(1, 500, 9, 16)
    assert erased[np.arange(500), 0, *centres].all()


def test_size_0_reduces_to_the_images_and_they_are_not_modified(batch):
    images, _ = batch
    before = images.clone()
    assert torch.equal(Cutout(0)(images, np.random.default_rng(0)), images)
    assert not torch.equal(Cutout(4)(images, np.random.default_rng(0)), before)
    assert torch.equal(images, before)


def test_the_draw_is_the_generators_alone(batch):
    images, _ = batch
    first, second, other = (Cutout(4)(images, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layout_and_dtype_stay(dtype):
    images = torch.randn(4, 3, 8, 8, dtype=dtype).to(memory_format=torch.channels_last)
    erased = Cutout(4)(images, np.random.default_rng(0))
    assert erased.dtype == dtype
    assert erased.is_contiguous(memory_format=torch.channels_last)


def test_a_box_is_top_left_bottom_right_and_may_reach_beyond_the_image():
    images = torch.ones(2, 1, 3, 5)
    erased = erase(images, np.array([[1, -2], [2, 3], [2, 9], [4, 9]]))
    assert erased[0, 0].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 1], [1, 1, 1, 1, 1]]
    assert erased[1, 0].tolist() == [[1, 1, 1, 0, 0]] * 3


@pytest.mark.parametrize(
    ("value", "allowed"),
    [("-1", "an integer of at least 0"), ("2.5", "an integer"), ("15", "always hides all of.*8x8")],
)
def test_a_bad_size_is_refused_before_training(value, allowed, plan):
    with pytest.raises(UsageError, match=allowed):
        plan("regularizer=cutout", f"regularizer.cutout.size={value}")


def test_the_largest_square_that_is_allowed_leaves_something_of_some_image():
    images = torch.ones(200, 1, 6, 8)
    assert Cutout(14)(images, np.random.default_rng(0)).any()
    with pytest.raises(ValueError, match="15 pixels always hides all"):
        Cutout(15)(images, np.random.default_rng(0))
