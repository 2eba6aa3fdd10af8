"""The optimizers as they are constructed."""

import pytest
import torch
from conftest import compose, make_trainer, write
from torch import nn

from bench.config import own_code, plugins
from bench.dataset import load_source, make_splits
from bench.errors import UsageError
from bench.optimizer import make_optimizer
from bench.speed.contestants import make_ceiling
from bench.training.rates import scale_lrs
from bench.training.schedule import lr_factor

GROUPS = """
import torch

def make(params, trunk, head, as_tensor):
    *rest, weight, bias = params
    groups = [{"params": rest, "lr": trunk}, {"params": [weight, bias], "lr": head}]
    for group in groups:
        group["lr"] = torch.tensor(group["lr"]) if as_tensor else group["lr"]
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9)
"""
YAML = "# @package optimizer.{0}\nslot: optimizer\n_target_: {0}.make\n"


@pytest.fixture
def groups(tmp_path):
    """A user's optimizer `groups`, whose last layer learns ten times as fast as the others."""
    text = YAML.format("groups") + "trunk: 0.01\nhead: 0.1\nas_tensor: false\n"
    plugins.use_folder(write(tmp_path / "own", {"groups.py": GROUPS, "optimizer/groups.yaml": text}))
    return "optimizer=groups"


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


def test_a_rate_that_is_a_tensor_is_read_once(groups, tiny):
    trainer, _ = make_trainer(tiny(groups, "optimizer.groups.as_tensor=true"))
    scale_lrs(trainer.optimizer, 1)
    for group in trainer.optimizer.param_groups:
        group["lr"] = group["lr"].to("meta")  # which cannot be read
    scale_lrs(trainer.optimizer, 0.5)


@pytest.mark.parametrize("as_tensor", ["false", "true"])
def test_every_group_has_its_own_rate_times_the_schedules_factor(as_tensor, groups, tiny):
    trainer, batches = make_trainer(tiny(groups, f"optimizer.groups.as_tensor={as_tensor}"))
    rates, step = [], trainer.step

    def spy(images, targets, number):
        rates.append([float(group["lr"]) for group in trainer.optimizer.param_groups])
        return step(images, targets, number)

    trainer.step = spy
    epochs = list(trainer.epochs(batches))
    factors = [lr_factor("cosine", number, len(rates)) for number in range(len(rates))]
    assert rates == [pytest.approx([0.01 * factor, 0.1 * factor]) for factor in factors]
    assert [epoch.lr for epoch in epochs] == pytest.approx([0.1 * factors[3], 0.1 * factors[7]])


def test_what_is_timed_stands_as_good_as_still_in_every_group(groups, tiny):
    run = tiny(groups)
    data = make_splits(run.dataset, load_source(run.dataset), torch.device("cpu"))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        step = torch.optim.SGD.step
        patch.setattr(
            torch.optim.SGD,
            "step",
            lambda self, *more: (seen.append([g["lr"] for g in self.param_groups]), step(self, *more))[1],
        )
        make_ceiling(run, data, 2).turn()
    assert seen == [[1e-9, 1e-9]] * 2


OPTIMIZERS = {
    "LBFGS = torch.optim.LBFGS\ndef make(params):\n    return LBFGS(params)\n": ["LBFGS", "needs no closure"],
    "class make(torch.optim.SGD):\n    def step(self, closure=None):\n        assert closure, 'give one'\n": [
        "AssertionError: give one",
        "own.py, line 4",
    ],
    "class make(torch.optim.Optimizer):\n    def __init__(self, params):\n        super().__init__(params, {})\n"
    "    def step(self, closure=None):\n        pass\n": ["groups of parameters without lr"],
    "def make(params):\n    return None\n": ["AttributeError"],
}


@pytest.mark.parametrize("code", OPTIMIZERS)
def test_an_optimizer_that_cannot_step_is_told_before_training(code, tmp_path, plan, monkeypatch):
    monkeypatch.delitem(own_code.sys.modules, "own", raising=False)
    files = {"own.py": "import torch\n" + code, "optimizer/own.yaml": YAML.format("own")}
    plugins.use_folder(write(tmp_path / "own", files))
    with pytest.raises(UsageError, match=r"own|LBFGS") as caught:
        plan("optimizer=own")
    assert len(str(caught.value).splitlines()) <= 3
    assert all(part in str(caught.value) for part in OPTIMIZERS[code]), caught.value


def test_an_optimizer_that_looks_at_the_models_parameters_is_not_refused(tmp_path, plan):
    """It reads values, which those without memory have not, and takes matrices alone."""
    code = (
        "import torch\nclass make(torch.optim.SGD):\n    def __init__(self, params):\n"
        "        super().__init__([p for p in params if p.ndim == 2], lr=0.1)\n"
        "    def step(self, closure=None):\n"
        "        assert all(p.grad.abs().max().item() >= 0 for p in self.param_groups[0]['params'])\n"
        "        return super().step()\n"
    )
    plugins.use_folder(
        write(tmp_path / "own", {"matrices.py": code, "optimizer/matrices.yaml": YAML.format("matrices")})
    )
    assert plan("optimizer=matrices")


def test_a_group_that_an_optimizer_adds_while_it_trains_has_its_own_rate_from_the_next_step_on(tiny):
    trainer, batches = make_trainer(tiny("train.schedule=step"))
    steps = trainer.epochs(batches)
    next(steps)
    trainer.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.5})
    scale_lrs(trainer.optimizer, 0.1)
    *_, added = trainer.optimizer.param_groups
    assert added["lr"] == pytest.approx(0.05)
