"""Adam first, SGD after: what it reduces to, and the rate that it finds, by the paper's algorithm."""

import pytest
import torch
from conftest import make_trainer
from torch import nn

from bench.errors import UsageError
from bench.optimizer.adam_sgd import AdamSGD
from bench.training.run import train_run

VALUES = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-3}
SGD = {"momentum": 0.9, "nesterov": True}
CURVATURES = torch.tensor([4.0, 1.0, 0.25])


def make(weight, lr=0.05, switch=0.5, sgd_lr=None, steps=20, **more):
    optimizer = AdamSGD([weight], lr, switch, sgd_lr, **{**VALUES, **SGD, **more})
    optimizer.plan(steps)
    return optimizer


def descend(make_optimizer, steps=20, factor=lambda step: 1.0):
    """The weights on a quadratic after each step; a schedule scales the rates."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = make_optimizer(weight)
    path = []
    for step in range(steps):
        group = optimizer.param_groups[0]
        group["lr"] = group.setdefault("base_lr", group["lr"]) * factor(step)
        optimizer.zero_grad()
        (CURVATURES * weight**2 / 2).sum().backward()
        optimizer.step()
        path.append(weight.detach().clone())
    return torch.stack(path)


def halving(step):
    return 0.9**step


def test_a_share_of_one_is_adam_and_of_none_is_sgd():
    adam = descend(lambda weight: torch.optim.Adam([weight], 0.05, **VALUES, foreach=True), factor=halving)
    assert torch.equal(descend(lambda weight: make(weight, switch=1.0), factor=halving), adam)
    sgd = descend(lambda weight: torch.optim.SGD([weight], 0.05, **SGD, weight_decay=1e-3), factor=halving)
    assert torch.equal(descend(lambda weight: make(weight, switch=0.0, sgd_lr=0.05), factor=halving), sgd)
    other = descend(lambda weight: torch.optim.SGD([weight], 0.02, **SGD, weight_decay=1e-3), factor=halving)
    assert torch.equal(descend(lambda weight: make(weight, switch=0.0, sgd_lr=0.02), factor=halving), other)


def test_a_small_share_leaves_adam_a_step_to_find_the_rate_from():
    optimizer = make(nn.Parameter(torch.ones(1)), switch=0.001, steps=20)
    assert optimizer.last == 1
    assert optimizer.sgd_lr is None  # found at the switch, and not yet made up


def test_the_switch_is_after_its_share_of_the_steps_with_a_momentum_of_its_own():
    given = descend(lambda weight: make(weight, switch=0.25, sgd_lr=0.02))
    adam = descend(lambda weight: make(weight, switch=1.0))
    assert torch.equal(given[:5], adam[:5])
    weight = nn.Parameter(given[4].clone())
    sgd = torch.optim.SGD([weight], 0.02, **SGD, weight_decay=1e-3)
    for expected in given[5:]:
        sgd.zero_grad()
        (CURVATURES * weight**2 / 2).sum().backward()
        sgd.step()
        assert torch.allclose(weight.detach(), expected)


@pytest.mark.parametrize("factor", [lambda step: 1.0, halving], ids=["constant", "falling"])
def test_the_rate_is_that_of_swats_restated(factor):
    """Algorithm 1 of Keskar & Socher 2017, in float64, of the same Adam; of its steps before a schedule's factor."""
    beta, lr, weight_decay = 0.999, 0.05, 1e-3
    weight, first, second, running = torch.tensor([1.0, -2.0, 3.0]).double(), 0.0, 0.0, 0.0
    for k in range(1, 11):
        gradient = CURVATURES.double() * weight
        decayed = gradient + weight_decay * weight
        first, second = 0.9 * first + 0.1 * decayed, beta * second + (1 - beta) * decayed**2
        step = -lr * (first / (1 - 0.9**k)) / ((second / (1 - beta**k)).sqrt() + 1e-8)
        if step @ decayed < 0:
            running = beta * running + (1 - beta) * (step @ step) / -(step @ decayed)
        weight = weight + factor(k - 1) * step
    made = []
    descend(lambda weight: made.append(make(weight)) or made[0], factor=factor)
    assert made[0].sgd_lr == pytest.approx(float(0.1 * running / (1 - beta**10)), rel=1e-5)


def test_both_phases_follow_the_schedule_and_train(tiny):
    trainer, batches = make_trainer(tiny("optimizer=adam_sgd", "train.schedule=cosine", "train.epochs=2"))
    rates = []
    step = trainer.step
    trainer.step = lambda *batch: (step(*batch), rates.append(trainer.optimizer.sgd.param_groups[0]["lr"]))[0]
    epochs = list(trainer.epochs(batches))
    assert epochs[-1].lr == pytest.approx(rates[-1])  # what history.csv shows is the rate that trains
    switch = len(rates) // 2
    assert trainer.optimizer.last == switch
    assert rates[switch] > rates[-1] > 0
    assert trainer.optimizer.sgd_lr > 0


@pytest.mark.parametrize("stack", ["none", "sam", "weight_decay"])
def test_it_trains_with_any_stack(stack, tiny, tmp_path):
    assert train_run(tiny("optimizer=adam_sgd", f"regularizer={stack}"), tmp_path)["status"] == "done"


def test_nothing_to_find_a_rate_from_and_a_share_beyond_one_are_refused(plan):
    with pytest.raises(ValueError, match="give sgd_lr, or raise switch"):
        make(nn.Parameter(torch.ones(1)), switch=0.0)
    with pytest.raises(UsageError, match=r"^optimizer\.adam_sgd\.switch=1.5"):
        plan("optimizer=adam_sgd", "optimizer.adam_sgd.switch=1.5")
