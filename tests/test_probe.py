"""Measures of a trained model: against closed forms, full Hessians and plain restatements."""

import copy
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from reference.sam import sharpness_aware_gradient
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.func import functional_call, hessian
from torch.nn.functional import cross_entropy, one_hot, scaled_dot_product_attention
from torchvision.transforms.v2 import functional

from bench.dataset import Data, Split
from bench.dataset.batches import normalise
from bench.measure.metric import accuracy, ece, nll
from bench.measure.probed import CORRUPTED_COLUMNS, PROBED
from bench.probe import PROBES, passes
from bench.probe.corruption import CORRUPTIONS, corrupted_copies
from bench.probe.curvature import Hessian, largest_eigenvalue, trace
from bench.probe.linearity import LAMS, input_gradient_norm, linearity_deviation
from bench.probe.passes import loss_shares, untouched
from bench.probe.robustness import score_corrupted, summarise
from bench.probe.sharpness import batch_rises, loss_rises
from bench.regularizer.asam import ASAM
from bench.regularizer.sam import SAM
from bench.rng import stream

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


class Quadratic(nn.Module):
    """w'Aw / 2, in two parameters."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix, cut = matrix, len(matrix) // 2
        weights = torch.linspace(1, 2, len(matrix), dtype=matrix.dtype)
        self.first, self.second = nn.Parameter(weights[:cut].clone()), nn.Parameter(weights[cut:].clone()[:, None])

    def forward(self):
        weights = torch.cat([self.first, self.second[:, 0]])
        return weights @ self.matrix @ weights / 2


def make_matrix(spectrum):
    """Symmetric, of that spectrum."""
    generator = torch.Generator().manual_seed(2)
    turn, _ = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=generator, dtype=torch.float64))
    return turn @ torch.tensor(spectrum, dtype=torch.float64).diag() @ turn.T


def make_signs(k, n):
    return torch.from_numpy(2 * np.random.default_rng(3).integers(2, size=(k, n), dtype=np.int8) - 1)


SPECTRA = {
    "spread": [float(i) for i in range(50)],
    "one large": [100.0, *np.linspace(-1, 1, 40)],
    "large and negative": [-100.0, *np.linspace(0, 3, 40)],
    "all negative": [-3.0, -2.0, -1.5],
    "twice the largest": [5.0, 5.0, 1.0, 0.5, -2.0],
    "two near": [10.0, 9.9, *np.linspace(0, 1, 100)],
    "identity": [2.0, 2.0, 2.0],
    "zero": [0.0, 0.0, 0.0],
    "single": [-7.0],
}


@pytest.mark.parametrize("name", SPECTRA)
def test_lanczos_finds_the_largest_eigenvalue_of_a_known_spectrum(name):
    matrix = make_matrix(SPECTRA[name])
    start = torch.randn(len(matrix), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = largest_eigenvalue(lambda vector: matrix @ vector, start, tolerance=1e-6, steps=200)
    assert found == pytest.approx(max(SPECTRA[name]), rel=1e-6, abs=1e-9)


def test_lanczos_ends_within_its_tolerance_and_its_steps():
    calls, matrix = [], make_matrix(SPECTRA["two near"])

    def times(vector):
        calls.append(1)
        return matrix @ vector

    start = torch.randn(len(matrix), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert largest_eigenvalue(times, start, tolerance=0.01) == pytest.approx(10, rel=0.01)
    assert len(calls) < 20
    calls.clear()
    assert largest_eigenvalue(times, start, steps=3) < 10
    assert len(calls) == 3
    assert np.isnan(largest_eigenvalue(lambda vector: vector * torch.nan, start))


def test_a_quadratics_hessian_and_trace():
    matrix = make_matrix(SPECTRA["one large"])
    net, n = Quadratic(matrix), len(matrix)
    of_it = Hessian(net, [net])
    for column, unit in zip(matrix.T, torch.eye(n, dtype=matrix.dtype), strict=True):
        torch.testing.assert_close(of_it.times(unit), column)
    exact = Quadratic(torch.arange(6.0).diag())
    assert trace(Hessian(exact, [exact]), make_signs(2, 6)) == (15, 0)  # v'Dv is the trace for any signs
    estimate, error = trace(of_it, make_signs(400, n))
    spread = (2 * (matrix**2).sum() - 2 * (matrix.diag() ** 2).sum()).sqrt() / 400**0.5
    assert error == pytest.approx(float(spread), rel=0.15)
    assert abs(estimate - float(matrix.trace())) < 4 * error


# torch's own forward mode, which the full Hessian is made by.
forward_mode = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")


def full_hessian(net, images, labels):
    names, weights = zip(*net.named_parameters(), strict=True)
    sizes = [w.numel() for w in weights]

    def loss(flat):
        parts = [part.view_as(w) for part, w in zip(flat.split(sizes), weights, strict=True)]
        return cross_entropy(functional_call(net, dict(zip(names, parts, strict=True)), (images,)), labels)

    return hessian(loss)(torch.cat([w.detach().flatten() for w in weights]))


@forward_mode
@pytest.mark.usefixtures("small_batches")
def test_a_nets_curvature_is_that_of_its_full_hessian():
    net, (images, labels) = make_net(torch.float64).eval(), make_images()
    full = full_hessian(net, images, labels)
    with untouched(net, 0):
        shares = loss_shares(net, images, labels)
        of_it = Hessian(net, shares)
        vector = torch.randn(len(full), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        product = of_it.times(vector)
        largest = largest_eigenvalue(of_it.times, vector)
        estimate, error = trace(of_it, make_signs(400, len(full)))
    assert len(shares) == 3
    torch.testing.assert_close(product, full @ vector)
    assert largest == pytest.approx(float(torch.linalg.eigvalsh(full)[-1]), rel=1e-3)
    assert abs(estimate - float(full.trace())) < 4 * error
    assert error < 0.1 * estimate


@pytest.mark.usefixtures("small_batches")
def test_batches_take_other_signs_so_the_trace_is_less_uncertain():
    """Of a sum of equal batches, by up to the root of their number."""
    matrix = make_matrix(list(np.random.default_rng(6).normal(size=40)))
    net, signs = Quadratic(matrix), make_signs(400, 40)
    _, alone = trace(Hessian(net, [net]), signs)
    estimate, error = trace(Hessian(net, [lambda: net() / 4] * 4), signs)
    assert error == pytest.approx(alone / 2, rel=0.15)
    assert abs(estimate - float(matrix.trace())) < 4 * error


def test_weights_that_the_loss_is_linear_in_or_does_not_see_have_no_curvature():
    net = nn.ParameterDict({"seen": torch.ones(2), "unseen": torch.ones(3)})
    of_it = Hessian(net, [lambda: net["seen"].sum()])
    assert torch.equal(of_it.times(torch.ones(5)), torch.zeros(5))
    assert largest_eigenvalue(of_it.times, torch.ones(5)) == 0


@forward_mode
def test_attention_is_differentiated_twice():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.queries, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)

        def forward(self, images):
            tokens = images.mean(1)
            return self.head(scaled_dot_product_attention(self.queries(tokens), tokens, tokens).mean(1))

    net, (images, labels) = Attention().double(), make_images()
    vector = torch.ones(sum(p.numel() for p in net.parameters()), dtype=torch.float64)
    with untouched(net, 0):
        product = Hessian(net, loss_shares(net, images, labels)).times(vector)
        expected = full_hessian(net, images, labels) @ vector
    torch.testing.assert_close(product, expected)


def test_the_rise_on_a_quadratic():
    matrix = make_matrix([4.0, 3.0, 1.0, 0.5, 0.1])
    net = Quadratic(matrix)
    weights = torch.cat([net.first, net.second[:, 0]]).detach()
    gradient = matrix @ weights
    moved = weights + 0.3 * gradient / gradient.norm()
    (rise,) = loss_rises(net, [net], [SAM(0.3)]).tolist()
    assert rise == pytest.approx(float(moved @ matrix @ moved - weights @ matrix @ weights) / 2)


def restated_rise(net, images, labels, rho, scale_of):
    losses, net = [], copy.deepcopy(net)

    def loss_of():
        losses.append(cross_entropy(net(images), labels))
        return losses[-1]

    sharpness_aware_gradient(net, loss_of, rho, scale_of)
    return (losses[1] - losses[0]).item()


def plain_scale(name, weights):
    return torch.ones_like(weights)


def adaptive_scale(name, weights):
    return weights.abs() + 0.01 if weights.ndim > 1 else plain_scale(name, weights)


@pytest.mark.usefixtures("small_batches")
def test_rises_equal_a_plain_restatement():
    net, (images, labels) = make_net(torch.float64).eval(), make_images()
    shares = loss_shares(net, images, labels)
    found = loss_rises(net, shares, [SAM(0.05), SAM(0.5), ASAM(0.5, eta=0.01), ASAM(2.0, eta=0.01), SAM(0.0)])
    rules = [(0.05, plain_scale), (0.5, plain_scale), (0.5, adaptive_scale), (2.0, adaptive_scale), (0.0, plain_scale)]
    assert found.tolist() == pytest.approx([restated_rise(net, images, labels, *rule) for rule in rules], abs=1e-9)
    assert found[-1] == pytest.approx(0, abs=1e-12)
    assert all(p.grad is None for p in net.parameters())


def test_m_sharpness_is_the_mean_over_batches_and_at_n_that_of_all():
    net, (images, labels) = make_net(torch.float64).eval(), make_images(20)
    ascents = [SAM(0.1), ASAM(1.0, eta=0.01)]
    whole = loss_rises(net, loss_shares(net, images, labels), ascents)
    assert torch.equal(batch_rises(net, images, labels, 20, ascents), whole)
    parts = [slice(0, 8), slice(8, 16), slice(16, 20)]
    restated = [restated_rise(net, images[p], labels[p], 0.1, plain_scale) * len(labels[p]) / 20 for p in parts]
    assert batch_rises(net, images, labels, 8, ascents)[0].item() == pytest.approx(sum(restated))


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


@pytest.mark.parametrize("white", [255, 16])
def test_rows_are_the_metrics_of_corrupted_copies(white, monkeypatch, small_batches):
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


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_gives_the_columns_that_are_declared_for_it(name):
    measured = PROBES[name](make_net(), make_data(), 0)
    assert list(measured.numbers) == list(PROBED[name])
    assert all(type(value) is float and np.isfinite(value) for value in measured.numbers.values())
    for column, value in measured.numbers.items():
        quantity = PROBED[name][column].quantities["test"]
        assert quantity.column == column
        assert quantity.clip(value) == value, column
    assert all(tuple(row) == CORRUPTED_COLUMNS for row in measured.rows)
    assert len(measured.rows) == (16 if name == "robustness" else 0)


def test_probes_and_their_declarations_are_of_the_same_names():
    assert list(PROBES) == list(PROBED)
    columns = [column for of_one in PROBED.values() for column in of_one]
    assert len(set(columns)) == len(columns)


@pytest.mark.parametrize("name", PROBES)
def test_a_seed_gives_the_same_whatever_was_drawn_before_and_another_gives_others(name):
    net, data = make_net(), make_data()
    first = PROBES[name](net, data, 0)
    torch.rand(3)
    assert PROBES[name](net, data, 0) == first
    assert PROBES[name](net, data, 1).numbers != first.numbers


@pytest.mark.parametrize("name", PROBES)
def test_arms_of_a_seed_are_shown_the_same_images(name):
    def seen_by(width):
        torch.manual_seed(width)
        net = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * 48, width), nn.Tanh(), nn.Linear(width, CLASSES))
        seen = []
        net.register_forward_hook(lambda _, given, __: seen.append(given[0].detach().clone()))
        PROBES[name](net, make_data(), 2)
        return seen

    one, other = seen_by(3), seen_by(5)
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=False))  # of Lanczos one may take more steps
    assert min(len(one), len(other)) > 5


@pytest.mark.parametrize("name", PROBES)
def test_nothing_of_a_model_or_of_the_generators_is_changed(name):
    net, data = make_net(), make_data()
    net[1].eval()  # modes that differ
    net[0].bias.requires_grad_(False)
    net[6].weight.grad = torch.ones_like(net[6].weight)
    held, grads = copy.deepcopy(net.state_dict()), [p.grad for p in net.parameters()]
    modes, asks = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    with torch.autocast("cpu", torch.bfloat16):
        mixed = PROBES[name](net, data, 0)
    with torch.no_grad():
        assert PROBES[name](net, data, 0) == mixed  # neither context reaches within
    assert all(torch.equal(value, held[key]) for key, value in net.state_dict().items())
    assert all(p.grad is grad for p, grad in zip(net.parameters(), grads, strict=True))
    assert torch.equal(net[6].weight.grad, torch.ones_like(net[6].weight))
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == asks
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]


def test_a_model_that_raises_is_put_back():
    net = make_net()
    net.register_forward_hook(lambda *_: pytest.fail("no"))
    with pytest.raises(pytest.fail.Exception):
        PROBES["sharpness"](net, make_data(), 0)
    assert all(module.training for module in net.modules())


class Broken(nn.Module):
    """Logits that are not finite."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((CLASSES,), torch.nan))

    def forward(self, images):
        return images.mean((1, 2, 3))[:, None] * self.weight


@pytest.mark.parametrize("name", PROBES)
def test_logits_that_are_not_finite_give_no_number(name):
    measured = PROBES[name](Broken(), make_data(), 0)
    assert all(np.isnan(value) for value in measured.numbers.values())
