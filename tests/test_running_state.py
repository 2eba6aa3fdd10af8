"""A step moves all running state once, however many passes it takes."""

import copy

import pytest
import torch
from test_sam import make_batches, make_net
from torch import nn
from torch.nn.functional import cross_entropy

from bench.regularizer.asam import ASAM
from bench.regularizer.look_sam import LookSAM
from bench.regularizer.sam import SAM


class Counter(nn.Module):
    """Buffers of a user's own: written in place, replaced, and none at first."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.tensor(0))
        self.register_buffer("total", torch.zeros(2, dtype=torch.float64), persistent=False)
        self.register_buffer("last", None)
        self.register_buffer("ones", torch.ones(1).expand(3))  # of shared memory: cannot be written

    def forward(self, x):
        self.passes += 1
        self.total = self.total + x.detach().mean((0, 2, 3))
        self.last = x.detach().mean()
        return x


class Stubborn(nn.BatchNorm2d):
    """Tracks whatever it is asked not to, and has a buffer more."""

    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("passes", torch.tensor(0))

    def forward(self, x):
        self.passes += 1
        self.running_mean = self.running_mean.lerp(x.detach().mean((0, 2, 3)), 0.1)
        return x - self.running_mean.view(-1, 1, 1)


def timm_layer(name):
    return lambda: getattr(pytest.importorskip("timm.layers"), name)(2)


RUNNING = {
    "batch norm": lambda: nn.BatchNorm2d(2),
    "instance norm": lambda: nn.InstanceNorm2d(2, track_running_stats=True),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 2, 3, padding=1)),
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Conv2d(2, 2, 3, padding=1)),
    "EvoNorm": timm_layer("EvoNorm2dB0"),
    "timm's batch norm": timm_layer("BatchNormAct2d"),
    "own": Counter,
    "own batch norm": lambda: Stubborn(2),
    "own activation": lambda: type(
        "Activated", (nn.BatchNorm2d,), {"forward": lambda s, x: super(type(s), s).forward(x).relu()}
    )(2),
}
RULES = {
    "sam": SAM(rho=0.5),
    "asam": ASAM(rho=0.5, eta=0.01),
    "look_sam": LookSAM(rho=0.5, interval=1, alpha=0.7),
}


def make_running(layer):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 2, 1), RUNNING[layer](), nn.Flatten(), nn.Linear(2 * 5 * 6, 3)).double()
    with torch.no_grad():
        net(torch.ones(2, 2, 5, 6, dtype=torch.float64))
    return net


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layer", RUNNING)
def test_a_step_moves_all_running_state_as_one_pass_does(layer, rule):
    net, (batch, more) = make_running(layer), make_batches(2)
    plain = copy.deepcopy(net)
    for images, labels in (batch, more):
        held = dict(net.named_buffers())
        RULES[rule](net, lambda: cross_entropy(net(images), labels))
        for parameter, other in zip(net.parameters(), plain.parameters(), strict=True):
            assert torch.equal(parameter, other)
        cross_entropy(plain(images), labels).backward()
        expected = dict(plain.named_buffers())
        assert {name for name, _ in net.named_buffers()} == set(expected)
        for name, buffer in net.named_buffers():
            assert torch.equal(buffer, expected[name]), name
        if layer == "batch norm":
            assert all(held[name] is buffer for name, buffer in net.named_buffers())


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
@pytest.mark.parametrize("layer", RUNNING)
def test_running_state_is_put_back_also_after_an_error_in_the_second_pass(layer):
    net, ((images, labels),) = make_running(layer), make_batches(1)
    plain, calls = copy.deepcopy(net), []
    plain(images)

    def loss_closure():
        loss = cross_entropy(net(images), labels)
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("second")
        return loss

    with pytest.raises(RuntimeError, match="second"):
        SAM(rho=0.1)(net, loss_closure)
    expected = plain.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in net.state_dict().items())
    assert all(m.track_running_stats for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_running_state_that_an_evaluation_has_left_is_no_hindrance():
    """A buffer that is replaced within torch.inference_mode cannot be written to after it."""
    net, ((images, labels),) = make_running("own"), make_batches(1)
    with torch.inference_mode():
        net[1].total = net[1].total + 1
    SAM(rho=0.1)(net, lambda: cross_entropy(net(images), labels))
    assert net[1].passes == 2


def test_where_only_batch_norm_has_running_state_nothing_is_copied(monkeypatch):
    net, ((images, labels),) = make_net(), make_batches(1)
    copied, clone = [], torch.Tensor.clone
    monkeypatch.setattr(torch.Tensor, "clone", lambda self, **more: (copied.append(self), clone(self, **more))[1])
    SAM(rho=0.1)(net, lambda: cross_entropy(net(images), labels))
    assert len(copied) == len([*net.parameters()])  # the weights
