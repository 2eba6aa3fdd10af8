"""Corrupted copies against other libraries, their metrics, and how smooth a model is, against closed forms."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from probing import CHANNELS, CLASSES, make_data, make_images, make_net, small_batches  # noqa: F401
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn.functional import one_hot
from torchvision.transforms.v2 import functional

from bench.dataset.batches import normalise
from bench.measure.metric import accuracy, ece, nll
from bench.probe.corruption import CORRUPTIONS, corrupted_copies
from bench.probe.linearity import LAMS, input_gradient_norm, linearity_deviation
from bench.probe.robustness import score_corrupted, summarise
from bench.rng import stream


@pytest.fixture
def pictures():
    """Images (N, C, H, W) in [0, 1] of whole grey values, smooth enough for JPEG, and standard normal noise."""
    random = np.random.default_rng(7)
    values = gaussian_filter(random.uniform(size=(5, 3, 24, 40)), (0, 0, 3, 3))
    values = (values - values.min()) / (values.max() - values.min())
    images = torch.from_numpy((values * 255).round() / 255).float()
    return images, torch.from_numpy(random.standard_normal(images.shape, dtype=np.float32))


def copies_of(images, noise):
    return {(name, strength): copy for name, strength, copy in corrupted_copies(images, noise)}


def test_there_are_five_corruptions_of_three_strengths_that_grow(pictures):
    images, noise = pictures
    before = images.clone()
    copies = copies_of(images, noise)
    assert len(copies) == 15
    for name, (_, strengths) in CORRUPTIONS.items():
        errors = [float((copies[name, strength] - images).square().mean()) for strength in strengths]
        assert 0 < errors[0] < errors[1] < errors[2], name
    assert all(copy.shape == images.shape and copy.min() >= 0 and copy.max() <= 1 for copy in copies.values())
    assert torch.equal(images, before)


def as_pil(image):
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def from_pil(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


OTHERS = {
    "contrast": lambda image, factor: from_pil(ImageEnhance.Contrast(as_pil(image)).enhance(factor)),
    "brightness": lambda image, factor: from_pil(ImageEnhance.Brightness(as_pil(image)).enhance(factor)),
    "jpeg": lambda image, quality: functional.jpeg((image * 255).round().byte(), quality) / 255,
    "blur": lambda image, sigma: torch.from_numpy(
        gaussian_filter(image.numpy(), (0, sigma, sigma), mode="mirror", radius=int(np.ceil(3 * sigma)))
    ),
}


@pytest.mark.filterwarnings("ignore:.*encoding capabilities of TorchVision are deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_corruptions_are_those_of_other_libraries(name, pictures):
    """PIL's, within the rounding of whole grey values, and scipy's blur; libraries of JPEG differ here and there."""
    images, noise = pictures
    copies = copies_of(images, noise)
    for strength in CORRUPTIONS[name][1]:
        others = torch.stack([OTHERS[name](image, strength) for image in images])
        error = (copies[name, strength] - others).abs()
        assert error.mean() < 1 / 255, strength
        if name != "jpeg":
            assert error.max() < (1e-5 if name == "blur" else 2 / 255), strength


def test_noise_is_what_is_given_and_images_are_clipped(pictures):
    images, noise = pictures
    copies = copies_of(images, noise)
    assert torch.equal(copies["noise", 0.08], (images + 0.08 * noise).clamp(0, 1))


def test_blur_grows_with_large_images():
    images = torch.rand(1, 1, 64, 96, generator=torch.Generator().manual_seed(8))
    (found,) = [copy for name, s, copy in corrupted_copies(images, images) if (name, s) == ("blur", 0.7)]
    torch.testing.assert_close(found, functional.gaussian_blur(images, [11, 11], [1.4, 1.4]))


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 2, 6, 8), (2, 4, 6, 8), (2, 3, 3, 2), (2, 1, 1, 1)])
def test_any_channels_and_sizes_are_corrupted(shape):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(9))
    copies = copies_of(images, torch.zeros(shape))
    assert all(copy.shape == shape and copy.isfinite().all() for copy in copies.values())
    if shape[1] != 3:
        for key, alone in copies_of(images[:, -1:], torch.zeros_like(images[:, -1:])).items():
            assert torch.equal(copies[key][:, -1:], alone), key


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("white", [255, 16])
def test_rows_are_the_metrics_of_corrupted_copies(white):
    net, data = make_net().eval(), make_data(white=white)
    rows = {(row["corruption"], row["strength"]): row for row in score_corrupted(net, data, seed=3)}
    assert len(rows) == 16
    labels, pixels = data.test.labels, data.test.images
    drawn = [stream(3, "noise", i).standard_normal((min(7, 60 - 7 * i), 3, 6, 8), dtype=np.float32) for i in range(9)]
    images, noise = pixels.permute(0, 3, 1, 2) / white, torch.from_numpy(np.concatenate(drawn))
    expected = {("none", 0.0): images, **copies_of(images, noise)}
    for key, copy_ in expected.items():
        with torch.no_grad():
            logits = net(normalise((copy_ * white).permute(0, 2, 3, 1), data))
        for name, metric in (("accuracy", accuracy), ("nll", nll), ("ece", ece)):
            assert rows[key][name] == pytest.approx(metric(logits, labels), rel=1e-4), (key, name)
    with torch.no_grad():
        assert rows["none", 0.0]["nll"] == pytest.approx(nll(net(normalise(pixels, data)), labels), rel=1e-5)


def test_a_summary_is_of_means():
    rows = [{"corruption": "none", "strength": 0.0, "accuracy": 0.9, "nll": 0.25, "ece": 0.0}]
    for i, name in enumerate(CORRUPTIONS):
        rows += [
            {"corruption": name, "strength": s, "accuracy": i / 10, "nll": i + s, "ece": s / 10} for s in (1, 2, 6)
        ]
    numbers = summarise(rows)
    assert numbers["corrupted_accuracy"] == pytest.approx(0.2)
    assert numbers["corrupted_nll"] == pytest.approx(5)
    assert numbers["corrupted_ece"] == pytest.approx(0.3)
    assert [numbers[f"{name}_accuracy"] for name in CORRUPTIONS] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [numbers[f"{name}_nll_rise"] for name in CORRUPTIONS] == pytest.approx([2.75, 3.75, 4.75, 5.75, 6.75])


class Linear(nn.Module):
    """Probabilities that are linear in the image."""

    def forward(self, images):
        share = images.mean((1, 2, 3))
        return torch.stack([share, 1 - share], 1).log()


def test_a_model_of_linear_probabilities_deviates_by_nothing():
    images = torch.rand(20, 3, 4, 5, generator=torch.Generator().manual_seed(10), dtype=torch.float64)
    assert linearity_deviation(Linear(), images) == pytest.approx(0, abs=1e-12)


@pytest.mark.usefixtures("small_batches")
def test_the_deviation_from_linear_is_a_mean_total_variation():
    net, (images, _) = make_net(torch.float64).eval(), make_images()
    deviations = []
    with torch.no_grad():
        for i in range(20):
            ends = net(images[[i, i - 1]]).softmax(1)
            for lam in LAMS:
                weights = torch.tensor([lam, 1 - lam], dtype=torch.float64)
                between = net((weights[:, None, None, None] * images[[i, i - 1]]).sum(0, keepdim=True)).softmax(1)[0]
                deviations.append((between - weights @ ends).clamp(min=0).sum().item())
    assert linearity_deviation(net, images) == pytest.approx(np.mean(deviations))


@pytest.mark.usefixtures("small_batches")
def test_the_input_gradient_of_a_linear_model():
    images, labels = make_images()
    net = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * 6 * 8, CLASSES)).double()
    with torch.no_grad():
        gradients = (net(images).softmax(1) - one_hot(labels, CLASSES)) @ net[1].weight
    assert input_gradient_norm(net, images, labels) == pytest.approx(float(gradients.norm(dim=1).mean()))
