"""The optimizers as they are constructed."""

import pytest
import torch
from conftest import compose
from torch import nn

from bench.optimizer import make_optimizer


@pytest.mark.parametrize("values", [(), ("weight_decay=0.01",)], ids=["plain", "decayed"])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_all_parameters_in_one_call_give_the_same_weights_to_the_last_bit(name, values):
    (run,) = compose(f"optimizer={name}", *(f"optimizer.{name}.{value}" for value in values))

    def train(optimize):
        random = torch.Generator().manual_seed(0)
        weights = [nn.Parameter(torch.randn(shape, generator=random)) for shape in ((8, 3, 3, 3), (8,), (40, 30))]
        optimizer = optimize(weights)
        for _ in range(20):
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=random)
            optimizer.step()
        return torch.cat([weight.detach().flatten() for weight in weights])

    settings = {key: value for key, value in run.optimizer.values.items() if key not in ("_target_", "slot")}
    classes = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    one_by_one = train(lambda weights: classes[name](weights, **settings, foreach=False))
    assert torch.equal(train(lambda weights: make_optimizer(run.optimizer, weights)), one_by_one)
