"""Rises of the loss and its curvature: against closed forms, full Hessians and plain restatements."""

import copy

import numpy as np
import pytest
import torch
from probing import CLASSES, make_data, make_images, make_net, small_batches  # noqa: F401
from reference.sam import sharpness_aware_gradient
from torch import nn
from torch.func import functional_call, hessian
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from bench.probe.curvature import Hessian, largest_eigenvalue, trace
from bench.probe.passes import loss_shares, untouched
from bench.probe.sharpness import CURVATURE, batch_rises, loss_rises, measure_sharpness
from bench.regularizer.asam import ASAM
from bench.regularizer.sam import SAM


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


def test_a_part_without_a_second_derivative_leaves_the_hessians_columns_empty():
    net = nn.Sequential(make_net(), nn.Hardsigmoid())
    numbers = measure_sharpness(net, make_data(), 0).numbers
    assert [column for column, value in numbers.items() if np.isnan(value)] == list(CURVATURE)


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
