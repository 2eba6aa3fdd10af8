"""What every probe promises: its columns, the same for a seed, and a model that is as it was."""

import copy
import random

import numpy as np
import pytest
import torch
from probing import CHANNELS, CLASSES, make_data, make_net
from torch import nn

from bench.measure.probed import CORRUPTED_COLUMNS, PROBED
from bench.probe import PROBES


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
