"""Fairness: what is the same in every arm, and that a run repeats itself."""

import copy
from dataclasses import replace

import pytest
import torch
from conftest import AVERAGES, STACKS, equal, make_trainer, train

from bench.rng import stream

# --- pairing ---------------------------------------------------------------------------------------------------------


def trace(run, monkeypatch):
    """What an arm starts from and is fed: initial weights, and each step's augmented batch before it is mixed."""
    trainer, batches = make_trainer(run)
    start, fed, step = copy.deepcopy(trainer.model.state_dict()), [], trainer.step

    def feed(images, targets, number):
        fed.append((images.clone(), targets.clone()))
        return step(images, targets, number)

    monkeypatch.setattr(trainer, "step", feed)
    list(trainer.epochs(batches))
    return start, fed


@pytest.mark.parametrize("stack", STACKS)
def test_every_arm_starts_from_the_same_weights_and_sees_the_same_batches(stack, tiny, monkeypatch):
    start, fed = trace(tiny("regularizer=none", "dataset.augment=standard"), monkeypatch)
    same_start, same_fed = trace(
        tiny(f"regularizer={stack}", "dataset.augment=standard", "optimizer=adam"), monkeypatch
    )
    assert equal(start, same_start)
    assert len(fed) == len(same_fed) == 8
    for (images, targets), (other_images, other_targets) in zip(fed, same_fed, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(targets, other_targets)


def forward_images(run):
    """The images of each forward pass of training."""
    trainer, batches = make_trainer(run)
    seen = []
    trainer.model.register_forward_pre_hook(lambda model, given: seen.append(given[0].clone()))
    list(trainer.epochs(batches))
    return seen


@pytest.mark.parametrize("mixing", ["mixup", "cutmix", "mixup_cutmix"])
def test_both_passes_of_sam_see_the_batch_that_is_mixed_as_without_sam(mixing, tiny):
    plain = forward_images(tiny(f"regularizer={mixing}"))
    sam = forward_images(tiny(f"regularizer=[{mixing},sam]"))
    for images, first, second in zip(plain, sam[::2], sam[1::2], strict=True):
        assert torch.equal(images, first)
        assert torch.equal(images, second)


@pytest.mark.parametrize("mixing", ["mixup", "cutmix", "mixup_cutmix"])
@pytest.mark.parametrize("erase", ["cutout", "random_erasing"])
def test_erasing_comes_before_mixing_and_shifts_none_of_its_draws(erase, mixing, tiny):
    """So the mixed batches are the same but where something erased was mixed in."""
    (mix, plain), (_, stacked) = (
        spy_on_mixing(tiny(f"regularizer={stack}")) for stack in (mixing, f"[{erase},{mixing}]")
    )
    assert len(plain) == len(stacked) == 8
    for step, ((images, mixed, targets), (erased, mixed_erased, same_targets)) in enumerate(
        zip(plain, stacked, strict=True)
    ):
        hidden = erased != images
        assert hidden.any()
        assert (erased[hidden] == 0).all()
        assert torch.equal(targets, same_targets)
        reached = mix(hidden.float(), targets, stream(0, "mixing", step))[0] > 0
        assert not reached.all()
        assert torch.equal(mixed[~reached], mixed_erased[~reached])


def spy_on_mixing(run):
    """What fills the slot, and the images that it is given and makes of them, and the targets, at each step."""
    trainer, batches = make_trainer(run)
    mix, seen = trainer.slots.mixing, []

    def mixing(images, targets, random):
        made = mix(images, targets, random)
        seen.append((images, *made))
        return made

    trainer.slots = replace(trainer.slots, mixing=mixing)
    list(trainer.epochs(batches))
    return mix, seen


@pytest.mark.parametrize("erase", ["cutout", "random_erasing"])
def test_both_passes_of_sam_see_the_same_erased_images(erase, tiny):
    plain = forward_images(tiny(f"regularizer={erase}"))
    sam = forward_images(tiny(f"regularizer=[{erase},sam]"))
    for images, first, second in zip(plain, sam[::2], sam[1::2], strict=True):
        assert torch.equal(images, first)
        assert torch.equal(images, second)


def dropout_masks(run):
    """Which activations of the first dropout layer are dropped, per forward pass of training."""
    trainer, batches = make_trainer(run)
    masks = []
    trainer.model[3].register_forward_hook(lambda layer, given, out: masks.append((given[0] != 0) & (out == 0)))
    trainer.model[2] = torch.nn.Softplus()  # no activation is 0 of itself
    list(trainer.epochs(batches))
    return masks


def test_dropout_masks_are_the_same_in_every_arm_and_in_both_passes_of_sam(tiny):
    plain = dropout_masks(tiny("regularizer=dropout"))
    sam = dropout_masks(tiny("regularizer=[sam,dropout,mixup]"))
    assert len(plain) == 8
    assert any(mask.any() for mask in plain)
    assert not torch.equal(plain[0], plain[1])
    for mask, first, second in zip(plain, sam[::2], sam[1::2], strict=True):
        assert torch.equal(mask, first)
        assert torch.equal(mask, second)


# --- determinism -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_same_run_twice_gives_equal_weights(stack, optimizer, tiny):
    run = tiny(f"regularizer={stack}", f"optimizer={optimizer}")
    torch.rand(17)  # whatever ran before
    first, epochs = train(run)
    second, again = train(run)
    assert equal(first, second)
    assert [epoch.train_loss for epoch in epochs] == [epoch.train_loss for epoch in again]


def test_the_order_of_a_stack_does_not_matter(tiny):
    first = train(tiny("regularizer=[mixup,label_smoothing,sam]"))[0]
    assert equal(first, train(tiny("regularizer=[sam,label_smoothing,mixup]"))[0])


@pytest.mark.parametrize(
    "overrides",
    [
        ("regularizer=label_smoothing", "regularizer.label_smoothing.smoothing=0"),
        ("regularizer=cutmix", "regularizer.cutmix.prob=0"),
        ("regularizer=sam", "regularizer.sam.rho=0"),
        ("regularizer=asam", "regularizer.asam.rho=0"),
        ("regularizer=weight_decay", "regularizer.weight_decay.value=0"),
        ("regularizer=dropout", "regularizer.dropout.value=0"),
        ("regularizer=cutout", "regularizer.cutout.size=0"),
        ("regularizer=random_erasing", "regularizer.random_erasing.probability=0"),
        ("regularizer=focal", "regularizer.focal.gamma=0"),
        ("regularizer=confidence_penalty", "regularizer.confidence_penalty.beta=0"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_neutral_settings_reduce_to_plain_training(overrides, tiny):
    assert equal(train(tiny("regularizer=none"))[0], train(tiny(*overrides))[0])


@pytest.mark.parametrize("stack", [s for s in STACKS if s != "none"])
def test_every_method_but_an_average_changes_the_trajectory(stack, tiny):
    same = equal(train(tiny("regularizer=none"))[0], train(tiny(f"regularizer={stack}"))[0])
    assert same == (stack in AVERAGES)


@pytest.mark.parametrize(
    ("regularizer", "override"), [("dropout", "model.dropout=0.2"), ("weight_decay", "optimizer.sgd.weight_decay=5e-4")]
)
def test_a_setting_equals_the_value_set_where_it_lives(regularizer, override, tiny):
    assert equal(train(tiny(f"regularizer={regularizer}"))[0], train(tiny(override))[0])
