"""TrivialAugment and random resized crops: torchvision's, for whole batches."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import CPU
from test_dataset import choice
from torchvision.transforms import v2

from bench.config.ranges import RANGES
from bench.dataset import load_source, make_splits
from bench.dataset.augment import POLICIES, check_augment, draw_transform
from bench.dataset.augment.operations import BINS, OPERATIONS
from bench.dataset.augment.random_resized import RATIO, SCALE, draw_boxes, resize_parts
from bench.dataset.batches import PADDING, Batches
from bench.errors import UsageError

# Square, as Fashion-MNIST, and of unlike sides; no larger: at 64 pixels a shear may fall between two of them.
SHAPES = [(32, 32, 3), (28, 28, 1), (17, 24, 3), (2, 9, 3)]


def make_images(n, height, width, channels):
    """Smooth with noise, as photographs are; one of a single colour, and one with a channel of a single value."""
    random = torch.Generator().manual_seed(0)
    smooth = torch.rand(n, channels, 4, 5, generator=random)
    images = torch.nn.functional.interpolate(smooth, (height, width), mode="bilinear")
    images = (images + 0.1 * torch.randn(images.shape, generator=random)).clamp(0, 1) * 255
    images[0], images[1, 0] = 77, 5
    return images.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_torchvisions_within_a_grey_level(name, shape):
    operation, theirs = OPERATIONS[name], v2.TrivialAugmentWide()
    strengths = operation.strengths.tolist()
    strengths += [-strength for strength in strengths] * operation.signed
    images = make_images(len(strengths), *shape)
    before = images.clone()
    ours = operation.apply(images, torch.tensor(strengths, dtype=torch.float64))
    assert (ours.dtype, ours.shape) == (torch.uint8, images.shape)
    assert torch.equal(images, before)
    for image, mine, strength in zip(images, ours, strengths, strict=True):
        magnitude = int(strength) if name == "Posterize" else strength
        expected = theirs._apply_image_or_video_transform(
            image.permute(2, 0, 1), name, magnitude, interpolation=theirs.interpolation, fill=theirs._fill
        )
        difference = (mine.permute(2, 0, 1).int() - expected.int()).abs()
        assert difference.max() <= 1, (name, strength)
        assert (difference > 0).float().mean() < 0.05  # where a rounding goes the other way


def test_operations_and_their_strengths_are_torchvisions():
    theirs = v2.TrivialAugmentWide()._AUGMENTATION_SPACE
    assert list(OPERATIONS) == list(theirs)
    for name, (make_strengths, signed) in theirs.items():
        expected = make_strengths(BINS, 32, 32)
        expected = np.zeros(BINS) if expected is None else expected.double().numpy()
        assert np.array_equal(OPERATIONS[name].strengths, expected)
        assert OPERATIONS[name].signed == signed


def test_each_image_undergoes_the_operation_drawn_for_it_whatever_is_in_its_batch():
    images = make_images(200, 12, 10, 3)
    transform = POLICIES["trivial_augment"](torch.Size((200, 3, 12, 10)), np.random.default_rng(0), CPU)
    together = transform(images.clone(), slice(0, 200))
    applied = [operation.apply for operation in OPERATIONS.values()]
    for i, (number, strength) in enumerate(zip(transform.operation, transform.strength, strict=True)):
        assert torch.equal(together[i], applied[number](images[i : i + 1], strength[None])[0])
        assert torch.equal(together[i], transform(images[i : i + 1].clone(), slice(i, i + 1))[0])


def test_operations_strengths_and_signs_are_equally_likely():
    n, count = 14 * 31 * 200, len(OPERATIONS)
    transform = POLICIES["trivial_augment"](torch.Size((n, 3, 8, 8)), np.random.default_rng(0), CPU)
    assert np.bincount(transform.operation) == pytest.approx(n / count, rel=0.05)
    rotated = transform.strength[torch.from_numpy(transform.operation == list(OPERATIONS).index("Rotate"))]
    assert (rotated < 0).float().mean().item() == pytest.approx(0.5 * 30 / 31, abs=0.03)
    _, frequencies = rotated.abs().unique(return_counts=True)
    assert len(frequencies) == BINS
    assert frequencies.float().numpy() == pytest.approx(n / count / BINS, rel=0.3)
    solarized = transform.strength[torch.from_numpy(transform.operation == list(OPERATIONS).index("Solarize"))]
    assert solarized.min() == 0  # no sign


@pytest.mark.parametrize("shape", [(48, 48, 3), (40, 60, 1), (30, 21, 4)])
def test_resized_parts_are_torchvisions_within_a_grey_level(shape):
    images = make_images(40, *shape)
    boxes = draw_boxes(40, *shape[:2], np.random.default_rng(0))
    ours = resize_parts(images, torch.from_numpy(np.stack(boxes)))
    assert (ours.dtype, ours.shape) == (torch.uint8, images.shape)
    for image, mine, *box in zip(images, ours, *boxes, strict=True):
        expected = v2.functional.resized_crop(image.permute(2, 0, 1).contiguous(), *map(int, box), list(shape[:2]))
        assert (mine.permute(2, 0, 1).int() - expected.int()).abs().max() <= 1, box


def test_a_part_that_is_the_whole_image_is_the_image():
    images = make_images(3, 20, 33, 3)
    assert torch.equal(resize_parts(images, torch.tensor([[0, 0, 20, 33]] * 3).T), images)


def test_boxes_lie_in_the_image_and_have_scale_and_ratio():
    n, size = 20000, 200
    top, left, height, width = draw_boxes(n, size, size, np.random.default_rng(0))
    assert min(top.min(), left.min()) == 0
    assert max((top + height).max(), (left + width).max()) == size
    area, ratio = height * width / size**2, width / height
    assert (area.min(), area.max()) == pytest.approx(SCALE, abs=0.01)
    assert (ratio.min(), ratio.max()) == pytest.approx(RATIO, abs=0.03)
    transform = v2.RandomResizedCrop(size)
    torch.manual_seed(0)
    theirs = [transform.make_params([torch.empty(3, size, size)]) for _ in range(2000)]
    for mine, key in ((height, "height"), (width, "width"), (top, "top"), (left, "left")):
        values = np.array([each[key] for each in theirs])
        assert mine.mean() == pytest.approx(values.mean(), abs=4 * values.std() / len(values) ** 0.5)
        assert mine.std() == pytest.approx(values.std(), rel=0.1)


@pytest.mark.parametrize("shape", [(100, 10), (10, 100)])
def test_where_no_box_fits_it_is_the_largest_in_the_middle_as_torchvisions(shape):
    """Of a strip, a part of 8 % or more is mostly wider or taller than it."""
    boxes = np.stack(draw_boxes(300, *shape, np.random.default_rng(0)), axis=1)
    large = SimpleNamespace(_log_ratio=torch.log(torch.tensor(RATIO)), scale=(1.0, 1.0), ratio=RATIO)
    theirs = v2.RandomResizedCrop.make_params(large, [torch.empty(3, *shape)])
    assert [theirs[key] for key in ("top", "left", "height", "width")] in boxes.tolist()
    assert (boxes[:, :2] + boxes[:, 2:] <= shape).all()


@pytest.mark.parametrize("augment", POLICIES)
def test_a_policy_leaves_order_crops_flips_and_torchs_generator_alone(augment):
    data = make_splits(choice(train_size=90), load_source(choice()), CPU)
    data = data.__class__(**{**vars(data), "flips": True})
    state = torch.get_rng_state()
    batches, plain = Batches(data, 20, augment, seed=0), Batches(data, 20, "standard", seed=0)
    assert torch.equal(batches.draw(1).which, plain.draw(1).which)
    if PADDING[augment] == PADDING["standard"]:
        assert all(torch.equal(a, b) for a, b in zip(batches.draw(1), plain.draw(1), strict=True))
    first, again, other = (list(batches.epoch(epoch)) for epoch in (1, 1, 2))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    assert torch.equal(torch.get_rng_state(), state)


def test_random_resized_flips_where_a_flip_keeps_the_class():
    data = make_splits(choice(train_size=90), load_source(choice()), CPU)
    flipping = data.__class__(**{**vars(data), "flips": True})
    assert not Batches(data, 20, "random_resized", seed=0).draw(0).flip.any()
    assert Batches(flipping, 20, "random_resized", seed=0).draw(0).flip.float().mean() == pytest.approx(0.5, abs=0.2)


def test_other_words_change_nothing():
    images = make_images(4, 5, 6, 3)
    transform = draw_transform("standard", torch.Size((4, 3, 5, 6)), np.random.default_rng(0), CPU)
    assert torch.equal(transform(images.clone(), slice(0, 4)), images)


def test_the_setting_takes_what_there_is():
    assert set(RANGES["dataset.augment"].values) == set(PADDING)
    assert set(POLICIES) < set(PADDING)


def test_images_of_other_channels_are_refused_before_anything_trains(plan):
    assert plan("dataset.channels=3", "dataset.augment=trivial_augment")
    with pytest.raises(UsageError, match="1 or 3 channels, and these have 2") as error:
        plan("dataset.channels=2", "dataset.augment=trivial_augment")
    assert str(error.value).count("\n") <= 2


def test_images_whose_white_is_not_255_are_refused_by_the_operations_alone():
    images = make_images(20, 8, 8, 1).numpy()
    check_augment("trivial_augment", images)
    with pytest.raises(UsageError, match=r"from 0 to 255, and none of these is above 1\d"):
        check_augment("trivial_augment", images // 16)
    check_augment("random_resized", images // 16)
