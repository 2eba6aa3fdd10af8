"""The optimizers as they are constructed."""

import pytest
import torch
from conftest import compose, make_trainer
from torch import nn
from torch.optim import SGD

from bench.optimizer import make_optimizer
from bench.optimizer.lookahead import Lookahead

PLAIN = {"lr": 0.1, "momentum": 0.85, "nesterov": True, "weight_decay": 1e-3}
STEPS = 20


def train(optimize):
    """All weights after STEPS steps with made-up gradients."""
    random = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape, generator=random)) for shape in ((8, 3, 3, 3), (8,), (40, 30))]
    optimizer = optimize(weights)
    for step in range(STEPS):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=random)
        for group in optimizer.param_groups:
            group["progress"] = step / STEPS
        optimizer.step()
    return torch.cat([weight.detach().flatten() for weight in weights])


@pytest.mark.parametrize("values", [(), ("weight_decay=0.01",)], ids=["plain", "decayed"])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lookahead"])
def test_all_parameters_in_one_call_give_the_same_weights_to_the_last_bit(name, values):
    (run,) = compose(f"optimizer={name}", *(f"optimizer.{name}.{value}" for value in values))

    settings = {key: value for key, value in run.optimizer.values.items() if key not in ("_target_", "slot")}
    classes = {"sgd": SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "lookahead": Lookahead}
    one_by_one = train(lambda weights: classes[name](weights, **settings, foreach=False))
    assert torch.equal(train(lambda weights: make_optimizer(run.optimizer, weights)), one_by_one)


def test_lookahead_is_the_papers_algorithm_with_jordans_schedule():
    """Zhang et al. 2019, algorithm 1, restated over all weights at once."""
    random = torch.Generator().manual_seed(0)
    fast = torch.cat([torch.randn(shape, generator=random).flatten() for shape in ((8, 3, 3, 3), (8,), (40, 30))])
    slow, velocity = fast.clone(), torch.zeros_like(fast)
    for step in range(STEPS):
        grads = [torch.randn(shape, generator=random).flatten() for shape in ((8, 3, 3, 3), (8,), (40, 30))]
        grad = torch.cat(grads) + 1e-3 * fast
        velocity = 0.85 * velocity + grad
        fast = fast - 0.1 * (grad + 0.85 * velocity)
        if step % 3 == 2:
            decay = 0.8 * (step / STEPS) ** 3
            slow = fast = decay * slow + (1 - decay) * fast
    torch.testing.assert_close(train(lambda weights: Lookahead(weights, **PLAIN, interval=3, pull=0.2)), fast)


def test_lookahead_that_follows_fully_is_sgd_to_the_last_bit():
    sgd = train(lambda weights: SGD(weights, **PLAIN))
    assert torch.equal(train(lambda weights: Lookahead(weights, **PLAIN, interval=1, pull=1)), sgd)
    assert not torch.equal(train(lambda weights: Lookahead(weights, **PLAIN, interval=1, pull=0.9)), sgd)


def test_the_training_loop_tells_lookahead_the_runs_progress(tiny):
    run = tiny("optimizer=lookahead", "train.epochs=2")
    trainer, batches = make_trainer(run)
    seen = [trainer.optimizer.param_groups[0]["progress"] for _ in trainer.epochs(batches)]
    steps = trainer.steps
    assert seen == [(steps / 2 - 1) / steps, (steps - 1) / steps]
