"""What the CUDA tests see on a card, without one: on the device `meta` no value can be read, and tensors have no other.

A copy that waits is seen by its arguments. What is left to a card: the kernels themselves.
"""

from contextlib import nullcontext
from dataclasses import fields, is_dataclass, replace
from unittest import mock

import pytest
import torch
from conftest import CONF, STACKS, TINY, compose
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.config.settings import apply_settings
from bench.dataset import load_source, make_splits
from bench.dataset.batches import PADDING, Batches, normalise
from bench.model.buffers import remake_statistics
from bench.training import run as run_module
from bench.training.trainer import Trainer

META = torch.device("meta")
OPTIMIZERS = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))
WITH_PACKAGES, HUGE = {"timm", "torchvision"}, {"wide_resnet28_10"}
MODELS = sorted({path.stem for path in (CONF / "model").glob("*.yaml")} - WITH_PACKAGES - HUGE)


class NothingWaits(TorchDispatchMode):
    """Raises where a tensor is copied from one device to another so that one waits for it, or where they meet."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        given = [each for each in tree_leaves((arguments, keywords)) if isinstance(each, torch.Tensor)]
        made = function(*arguments, **keywords)
        met = [each for each in [*given, *tree_leaves(made)] if isinstance(each, torch.Tensor) and each.ndim]
        if len({each.device.type for each in met}) > 1:
            copies = function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
            waits = not (keywords.get("non_blocking") or True in arguments[2:])
            if not copies or waits:
                raise AssertionError(f"{function} has tensors of {sorted({str(each.device) for each in met})}")
        return made


def on_meta(value):
    """The same with all its tensors on `meta`."""
    if isinstance(value, torch.Tensor):
        return value.to(META)
    if is_dataclass(value):
        return replace(value, **{each.name: on_meta(getattr(value, each.name)) for each in fields(value) if each.init})
    return value


def make(*overrides):
    """A trainer, its batches and its data, of a run on `meta`."""
    (run,) = compose(*[each for each in TINY if not each.startswith("model")], *overrides)
    run = apply_settings(run)
    run = replace(run, train=replace(run.train, device="meta"))
    data = make_splits(run.dataset, load_source(run.dataset), torch.device("cpu"))
    shown = normalise(data.train.images, data)  # which the model looks at before it is trained
    data = on_meta(data)
    with mock.patch.object(run_module, "normalise", return_value=shown):
        trainer = run_module.make_trainer(run, data)
    return trainer, Batches(data, run.train.batch_size, run.dataset.values["augment"], run.seed), data


def train(trainer, batches):
    """An epoch's steps; the losses."""
    with mock.patch.object(Trainer, "autocast", return_value=nullcontext()):  # there is none for `meta`
        trainer.model.train()
        left = batches.epoch(0)
        first = next(left)  # after it was drawn, which waits
        with NothingWaits():
            return [_step(trainer, each, step, batches.per_epoch) for step, each in enumerate([first, *left])]


def _step(trainer, batch, step, per_epoch):
    loss = trainer.step(*batch, step)
    trainer.move_average(step, 2 * per_epoch, per_epoch)
    return loss


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stack", STACKS)
def test_a_step_reads_nothing_from_the_device_and_makes_nothing_elsewhere(stack, optimizer):
    more = ("model=convnet", "dataset.augment=standard", "train.clip_norm=1")
    trainer, batches, _ = make(f"regularizer={stack}", f"optimizer={optimizer}", *more)
    losses = train(trainer, batches)
    assert len(losses) == batches.per_epoch == 4
    assert all(loss.device == META for loss in losses)
    assert all(each.device == META for each in trainer.model.state_dict().values())
    kept = getattr(trainer.slots.gradient, "kept", {})
    assert all(each.device == META for each in kept.values())


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_an_average_lies_on_the_device_and_batch_norm_is_made_anew_without_reading_anything(average):
    trainer, batches, _ = make("model=convnet", f"regularizer={average}", "regularizer.swa.start=0")
    train(trainer, batches)
    weights = trainer.averaged.weights
    assert weights.keys() == dict(trainer.model.named_parameters()).keys()
    assert all(each.device == META for each in weights.values())
    left = batches.epoch(0)
    images = [next(left)[0]]  # after it was drawn, which waits
    with NothingWaits():
        remake_statistics(trainer.model, images)
    assert trainer.model[1].running_mean.device == META


@pytest.mark.parametrize("model", MODELS)
def test_no_model_of_ours_reads_anything(model):
    trainer, batches, data = make(f"model={model}")
    assert train(trainer, batches)[0].device == META
    with NothingWaits():
        trainer.model.eval()
        assert trainer.model(normalise(data.test.images, data)).device == META


@pytest.mark.parametrize("model", ["resnet8", "preact_resnet18", "wide_resnet"])
def test_stochastic_depth_draws_on_the_device(model):
    trainer, batches, _ = make(f"model={model}", "regularizer=[cutout,mixup,stochastic_depth]")
    assert train(trainer, batches)[0].device == META


@pytest.mark.parametrize("augment", PADDING)
def test_batches_are_gathered_on_the_device_channels_last(augment):
    _, batches, _ = make("model=mlp", "dataset=synthetic", "dataset.channels=3", f"dataset.augment={augment}")
    left = batches.epoch(0)
    next(left)
    with NothingWaits():
        for images, targets in left:
            assert (images.device, targets.device) == (META, META)
            assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "wait",
    [
        lambda model: model.weight.sum().item(),
        lambda model: model.weight.cpu(),
        lambda model: torch.ones(3).to(META),
        lambda model: torch.zeros(3, device=META).copy_(torch.ones(3)),
        lambda model: model.weight.new_ones(3) + torch.ones(3),
    ],
)
def test_what_waits_is_seen(wait):
    with NothingWaits(), pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        wait(torch.nn.Linear(2, 3, device=META))
