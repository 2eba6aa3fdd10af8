"""BatchNorm's statistics of an average of the weights, and how it is shown for a while."""

import copy

import pytest
import torch
from conftest import equal, make_trainer
from test_average import NET
from torch import nn
from torch.optim.swa_utils import update_bn

from bench.model.buffers import has_statistics, remake_statistics


def test_statistics_are_those_of_update_bn_to_the_bit_and_all_else_stays():
    torch.manual_seed(0)
    shared = nn.BatchNorm2d(3, momentum=0.4)
    net = nn.Sequential(shared, nn.Conv2d(3, 3, 3), shared, nn.BatchNorm2d(3, momentum=None), nn.Flatten())
    batches = [torch.randn(n, 3, 8, 8) + n for n in (5, 4, 3)]
    net(batches[0])
    theirs = copy.deepcopy(net)
    update_bn(batches, theirs)
    weights = copy.deepcopy(dict(net.named_parameters()))
    remake_statistics(net, batches)
    assert equal(net.state_dict(), theirs.state_dict())
    assert equal(dict(net.named_parameters()), weights)
    assert [net[0].momentum, net[3].momentum] == [0.4, None]
    assert not any(layer._forward_pre_hooks for layer in net)


class Partly(nn.Module):
    """A layer that is kept in evaluation mode, one that is never called, and a count of calls."""

    def __init__(self):
        super().__init__()
        self.kept, self.idle, self.live = (nn.BatchNorm2d(2) for _ in range(3))
        self.register_buffer("calls", torch.tensor(0))

    def train(self, mode=True):
        super().train(mode)
        self.kept.eval()
        return self

    def forward(self, images):
        self.calls += 1
        return self.live(self.kept(images))


@pytest.mark.parametrize("shown", ["cutout", "mixup"])
def test_statistics_are_of_images_as_erased_and_not_as_mixed(shown, tiny):
    def statistics(stack):
        trainer, batches = make_trainer(tiny(*NET, f"regularizer={stack}"))
        trainer.averaged.move(1)
        trainer.averaged.use(trainer.unmixed(batches))
        return {name: value for name, value in trainer.model.state_dict().items() if "running" in name}

    assert equal(statistics("ema"), statistics(f"[{shown},ema]")) == (shown == "mixup")


def test_layers_that_see_no_batch_keep_their_statistics():
    net, images = Partly(), torch.randn(8, 2, 4, 4) + 3
    for layer in (net.kept, net.idle, net.live):
        layer.running_mean.fill_(7)
    assert has_statistics(net)
    remake_statistics(net, [images, images])
    assert (net.kept.running_mean == 7).all()
    assert (net.idle.running_mean == 7).all()
    torch.testing.assert_close(net.live.running_mean, net.kept.eval()(images).mean((0, 2, 3)))
    assert net.calls == 0
    net.live.eval()
    assert has_statistics(net)
    net.idle = net.live = nn.Identity()
    assert not has_statistics(net)


def test_the_pass_is_in_float32_whatever_training_is_in(tiny):
    trainer, batches = make_trainer(tiny(*NET, "regularizer=ema", "train.precision=bf16"))
    seen = set()
    trainer.model[0].register_forward_hook(lambda layer, given, out: seen.add(out.dtype))
    list(trainer.epochs(batches))
    assert seen == {torch.bfloat16}
    assert {weight.dtype for weight in trainer.averaged.weights.values()} == {torch.float32}
    seen.clear()
    trainer.averaged.use(trainer.unmixed(batches))
    assert seen == {torch.float32}


def test_the_average_is_shown_and_everything_put_back(tiny):
    trainer, batches = make_trainer(tiny(*NET, "regularizer=[ema,dropout]"))
    with trainer.averaged.shown(trainer.unmixed(batches)):  # there is none yet
        assert equal(trainer.model.state_dict(), make_trainer(tiny(*NET))[0].model.state_dict())
    list(trainer.epochs(batches))
    before, held = copy.deepcopy(trainer.model.state_dict()), dict(trainer.model.named_buffers())
    random = torch.get_rng_state()
    shown = []
    for _ in range(2):
        with trainer.averaged.shown(trainer.unmixed(batches)):
            shown.append(copy.deepcopy(trainer.model.state_dict()))
        assert equal(trainer.model.state_dict(), before)
    assert equal(*shown)
    assert not equal(shown[0], before)
    assert all(held[name] is buffer for name, buffer in trainer.model.named_buffers())
    assert torch.equal(torch.get_rng_state(), random)
    trainer.averaged.use(trainer.unmixed(batches))
    assert equal(trainer.model.state_dict(), shown[0])


def test_what_is_compiled_is_not_compiled_again_for_the_average(tiny, monkeypatch):
    graphs, compile_ = [], torch.compile
    keep = lambda graph, _: graphs.append(graph) or graph  # noqa: E731
    monkeypatch.setattr(torch, "compile", lambda model, **more: compile_(model, backend=keep, **more))
    torch.compiler.reset()
    trainer, batches = make_trainer(tiny(*NET, "regularizer=ema", "train.compile=true"))
    made = []
    for _ in trainer.epochs(batches):
        made.append(len(graphs))
        with trainer.averaged.shown(trainer.unmixed(batches)):
            trainer.model.eval()
    assert made == made[:1] * 4
    assert trainer.compiled
    plain, _ = make_trainer(tiny(*NET, "regularizer=ema"))
    list(plain.epochs(batches))
    for name, value in plain.averaged.weights.items():
        torch.testing.assert_close(trainer.averaged.weights[name], value)
    torch.compiler.reset()
