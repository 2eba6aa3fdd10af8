"""Stochastic depth: the layer, where models have it, and that without it all is as it was."""

import numpy as np
import pytest
import torch
from conftest import equal, make_model, make_trainer, train
from timm.layers import DropPath
from torch import nn
from torchvision.ops import StochasticDepth as OfTorchvision

from bench.config.identity import arm_id, identity
from bench.errors import UsageError
from bench.model.stochastic_depth import StochasticDepth, linear_decay
from bench.model.timm import make_timm
from bench.model.torchvision import make_torchvision
from bench.rng import global_stream
from bench.training.run import train_run

BLOCKS = {"resnet8": 3, "resnet20": 9, "resnet18": 8, "preact_resnet18": 8, "wide_resnet": 6, "wide_resnet28_10": 12}
SMALL = ("model=resnet8", "~model.width")
CHOSEN = (*SMALL, "regularizer=stochastic_depth", "regularizer.stochastic_depth.value=0.5")


def seeded(function):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return function()


@pytest.mark.parametrize("shape", [(64, 3, 4, 5), (64, 7)])
@pytest.mark.parametrize("probability", [0.2, 0.9])
def test_equals_timms_and_torchvisions(shape, probability):
    branch = torch.randn(shape)
    ours = seeded(lambda: StochasticDepth(probability)(branch))
    assert torch.equal(ours, seeded(lambda: DropPath(probability)(branch)))
    assert torch.equal(ours, seeded(lambda: OfTorchvision(probability, "row")(branch)))
    kept = (ours != 0).flatten(1)
    assert torch.equal(kept.any(1), kept.all(1))  # whole images
    assert 0 < kept.all(1).sum() < 64


def test_without_it_nothing_is_drawn_and_nothing_computed():
    branch = torch.randn(8, 3, 4, 4)
    before = torch.get_rng_state()
    assert StochasticDepth(0.0)(branch) is branch
    assert StochasticDepth(0.5).eval()(branch) is branch
    assert torch.equal(torch.get_rng_state(), before)


def test_its_mean_is_the_branch():
    branch = torch.ones(20_000, 1)
    assert seeded(lambda: StochasticDepth(0.3)(branch)).mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_models_blocks_follow_the_linear_decay_rule(name):
    with torch.device("meta"):
        plain, deep = (make_model(name, 3, 10, stochastic_depth=rate) for rate in (0.0, 0.6))
    rates = [m.probability for m in deep.modules() if isinstance(m, StochasticDepth)]
    n = BLOCKS[name]
    assert rates == pytest.approx([0.6 * block / n for block in range(1, n + 1)])
    assert rates == linear_decay(0.6, n)
    assert {m.probability for m in plain.modules() if isinstance(m, StochasticDepth)} == {0}
    assert [*plain.state_dict()] == [*deep.state_dict()]


@pytest.mark.parametrize("name", ["resnet8", "wide_resnet"])
def test_an_image_whose_blocks_are_all_left_out_sees_their_shortcuts_alone(name):
    model = make_model(name, 1, 4, stochastic_depth=0.5)
    for layer in model.modules():
        if isinstance(layer, StochasticDepth):
            layer.probability = 1 - 1e-9  # none survives
    images = torch.randn(6, 1, 8, 8)
    shown = model(images)
    for block in model:
        if hasattr(block, "conv2"):  # the branch's last layer, but for resnet8's BatchNorm
            nn.init.zeros_(block.conv2.weight if name == "wide_resnet" else block.bn2.weight)
    for layer in model.modules():
        if isinstance(layer, StochasticDepth):
            layer.probability = 0.0
    torch.testing.assert_close(shown, model(images))


def restated(model, x):
    """A ResNet's forward pass as it was before there was stochastic depth."""
    for layer in model:
        if hasattr(layer, "conv2"):
            out = layer.bn2(layer.conv2(torch.relu(layer.bn1(layer.conv1(x)))))
            x = torch.relu(out + layer.shortcut(x))
        else:
            x = layer(x)
    return x


def test_at_0_the_forward_pass_is_the_one_without_it_to_the_bit():
    model, images = make_model("resnet8", 3, 10), torch.randn(4, 3, 16, 16)
    assert torch.equal(model(images), restated(model, images))


@pytest.mark.slow
def test_value_0_reduces_to_none_and_a_value_to_the_models_own(tiny):
    none = train(tiny(*SMALL, "regularizer=none"))[0]
    assert equal(none, train(tiny(*CHOSEN, "regularizer.stochastic_depth.value=0"))[0])
    chosen = train(tiny(*CHOSEN))[0]
    assert not equal(none, chosen)
    assert equal(chosen, train(tiny(*SMALL, "model.stochastic_depth=0.5"))[0])


def test_an_unset_value_is_no_part_of_a_runs_identity(tiny):
    plain, chosen, own = tiny(*SMALL), tiny(*CHOSEN), tiny(*SMALL, "model.stochastic_depth=0.5")
    assert "model.stochastic_depth" not in identity(plain)
    assert identity(own)["model.stochastic_depth"] == 0.5
    assert identity(chosen)["regularizer.stochastic_depth.value"] == 0.5
    assert len({arm_id(run) for run in (plain, chosen, own)}) == 3


def trace(run):
    """Initial weights, the batches of the first epoch, and which images each block leaves out at each pass."""
    trainer, batches = make_trainer(run)
    start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    left_out, fed = [], []
    for layer in trainer.model.modules():
        if isinstance(layer, StochasticDepth):
            layer.register_forward_hook(lambda m, given, out: left_out.append((out == 0).flatten(1).all(1)))
    trainer.model.register_forward_pre_hook(lambda m, given: fed.append(given[0].clone()))
    list(trainer.epochs(batches))
    return start, fed, torch.stack(left_out).view(len(fed), 3, -1)


def test_an_arm_with_it_starts_from_the_same_weights_and_sees_the_same_batches(tiny):
    start, fed, left_out = trace(tiny(*SMALL))
    same_start, same_fed, drawn = trace(tiny(*CHOSEN))
    assert equal(start, same_start)
    assert all(torch.equal(*pair) for pair in zip(fed, same_fed, strict=True))
    assert not left_out.any()
    assert (drawn.float().mean((0, 2)) > torch.tensor([0.05, 0.15, 0.3])).all()  # of 128 draws each; 1/6, 1/3 and 1/2
    assert not torch.equal(drawn[0], drawn[1])


def test_both_passes_of_sam_leave_the_same_out(tiny):
    plain = trace(tiny(*CHOSEN))[2]
    both = trace(tiny(*CHOSEN, "regularizer=[sam,stochastic_depth]"))[2]
    assert torch.equal(both[::2], plain)
    assert torch.equal(both[1::2], plain)


def test_a_run_repeats_itself_and_touches_no_global_generator(tiny, tmp_path):
    run = tiny(*CHOSEN, "regularizer=[cutout,mixup,stochastic_depth]")
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first, second = (train_run(run, tmp_path / name) for name in "ab")
    assert first["status"] == "done", first["message"]
    assert first["test_nll"] == second["test_nll"]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


# --- models of other libraries ---------------------------------------------------------------------------------------


def test_timms_is_its_drop_path_rate():
    def make(stochastic_depth=0.0, **args):
        return make_timm(3, 10, "resnet10t", 0.0, args, stochastic_depth=stochastic_depth)

    ours, theirs, plain = make(0.4), make(drop_path_rate=0.4), make()
    rates = [[m.drop_prob for m in model.modules() if isinstance(m, DropPath)] for model in (ours, theirs, plain)]
    assert rates[0] == rates[1]
    assert max(rates[0]) == pytest.approx(0.4)
    assert rates[2] == []


@pytest.mark.parametrize("arch", ["convnext_tiny", "swin_t", "efficientnet_b0"])
def test_torchvisions_has_its_proportions_and_the_last_blocks_value(arch):
    def rates(stochastic_depth=0.0, **args):
        with torch.device("meta"):
            model = make_torchvision(3, 10, arch, args, stochastic_depth=stochastic_depth)
        return torch.tensor([m.p for m in model.modules() if isinstance(m, OfTorchvision)])

    plain, ours = rates(), rates(0.4)
    assert ours.max().item() == pytest.approx(0.4)
    torch.testing.assert_close(ours, 0.4 / plain.max() * plain)
    if arch == "convnext_tiny":  # swin_t's builder does not take it; an efficientnet's counts blocks from 0 to L - 1
        torch.testing.assert_close(ours, rates(stochastic_depth_prob=0.4))


def test_it_draws_in_anothers_model_from_the_same_stream():
    model = make_torchvision(1, 4, "efficientnet_b0", {}, stochastic_depth=0.5)
    images = torch.randn(4, 1, 32, 32)

    def forward():
        with global_stream(torch.device("cpu"), 0, "dropout", 3, torch_only=True):
            return model(images)

    assert torch.equal(forward(), forward())


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ("model=torchvision",),
            r"resnet18 has no stochastic depth: those of convnext, efficientnet.*\n.*regularizer=none",
        ),
        (("model=timm", "model.arch=vgg11"), r"timm's vgg11 has no stochastic depth.*\n.*regularizer=none"),
        (("model=timm", "model.args={drop_path_rate:0.1}"), "set it in one place"),
        (
            ("model=torchvision", "model.arch=convnext_tiny", "model.args={stochastic_depth_prob:0.1}"),
            "set it in one place",
        ),
        (("model=resnet8", "model.stochastic_depth=0.1"), "resnet8 has stochastic_depth=0.1"),
        (("model=resnet8", "regularizer.stochastic_depth.value=1"), r"a number in \[0, 1\)"),
        (("model=resnet8", "regularizer.stochastic_depth.value=-0.1"), r"a number in \[0, 1\)"),
        (("model=convnet", "model.width=8"), "which model convnet does not have.\nThese have it: preact_resnet18, "),
    ],
)
def test_where_there_is_none_or_a_bad_value_is_refused_before_training(overrides, said, plan):
    size = ("dataset.image_size=32", "dataset.channels=3")
    with pytest.raises(UsageError, match=said) as caught:
        plan(
            "~model.width" if "model.width=8" not in overrides else "seed=0",
            *size,
            *overrides,
            "regularizer=stochastic_depth",
        )
    assert len(str(caught.value).splitlines()) <= 3
