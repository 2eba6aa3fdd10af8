"""The global generators: a user's own may draw from any, and finds a function of seed and step."""

import random

import numpy as np
import pytest
import torch
from conftest import STACKS, make_trainer, train, write

from bench.config import own_code, plugins
from bench.dataset import _load
from bench.training.run import train_run


@pytest.mark.parametrize("stack", STACKS)
def test_nothing_touches_the_global_generators(stack, tiny, tmp_path):
    run = tiny(f"regularizer={stack}")
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    result = train_run(run, tmp_path, lambda *_: None)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert result["status"] == "done"
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_planning_does_not_touch_the_global_generators(plan):
    before = torch.get_rng_state()
    plan("model=convnet", "regularizer=none,sam")
    assert torch.equal(before, torch.get_rng_state())


# --- a user's own, which draws from whatever there is ---------------------------------------------------------------

NOISY = """
import random
import numpy as np
import torch
from torch import nn
from bench.dataset import Source
from bench.regularizer import Backward

def draw():
    return float(torch.rand(())) + float(np.random.rand()) + np.random.standard_normal() + random.random()

IMPORTED = draw()

class Erase:
    def __init__(self):
        self.made = draw()
    def __call__(self, images, random):
        return images * (1 + draw()) + self.made

class Mixing:
    def __init__(self):
        self.made = draw()
    def __call__(self, images, targets, random):
        return images + draw() + self.made + IMPORTED, targets

class Loss:
    def __call__(self, logits, targets):
        return nn.functional.cross_entropy(logits * (1 + draw()), targets)

class Gradient(Backward):
    def __call__(self, model, loss_closure, *, step=0):
        before, loss = draw(), super().__call__(model, loss_closure)
        for parameter in model.parameters():
            parameter.grad += 0.01 * (before + draw())
        return loss

class Average:
    def __call__(self, step, steps, per_epoch):
        return 0.4 + 0.2 * draw()

class Optimizer(torch.optim.SGD):
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            parameter.grad += 0.01 * draw()
        super().step()

class Net(nn.Sequential):
    def __init__(self, channels, classes):
        super().__init__(nn.Flatten(), nn.LazyLinear(8), nn.Linear(8, classes))
        self.register_buffer("made", torch.tensor(draw()))
    def look_at(self, images):
        self.made += draw()
    def forward(self, x):
        return super().forward(x) * (1 + draw()) + self.made

def load(augment=None):
    labels = np.arange(100) % 4
    images = np.random.randint(0, 200, (100, 8, 8, 1)) + 10 * labels[:, None, None, None]
    images = images.astype(np.uint8)
    return Source(images[:80], labels[:80], images[80:], labels[80:], classes=4, flips=True)
"""


@pytest.fixture
def noisy(tmp_path):
    """Choices of a user's own, each of which draws from all global generators."""
    own = {"noisy.py": NOISY, "dataset/noisy.yaml": "_target_: noisy.load\naugment: none\n"}
    own["model/noisy.yaml"] = "_target_: noisy.Net\n"
    for slot in ("erase", "mixing", "loss", "gradient", "average"):
        own[f"regularizer/n_{slot}.yaml"] = (
            f"# @package regularizer.n_{slot}\nslot: {slot}\n_target_: noisy.{slot.title()}\n"
        )
    own["optimizer/noisy.yaml"] = "# @package optimizer.noisy\nslot: optimizer\n_target_: noisy.Optimizer\nlr: 0.05\n"
    plugins.use_folder(write(tmp_path / "own", own))


NOISE = [
    "regularizer=n_erase",
    "regularizer=n_mixing",
    "regularizer=n_loss",
    "regularizer=n_gradient",
    "regularizer=n_average",
    "optimizer=noisy",
    "model=noisy",
    "dataset=noisy",
]


def globals_now():
    return torch.get_rng_state().tolist(), *np.random.get_state(legacy=False).items(), random.getstate()  # noqa: NPY002


def disturb():
    """Whatever else a process has done."""
    torch.rand(17), np.random.standard_normal(3), random.random()  # noqa: NPY002
    own_code.sys.modules.pop("noisy", None)
    _load.cache_clear()


@pytest.mark.parametrize("choice", [*NOISE, "all"])
def test_whatever_generator_a_users_own_draws_from_it_is_a_function_of_the_seed(choice, noisy, tiny, tmp_path):
    """And it is put back, so that nothing else is moved."""
    choices = (
        ["regularizer=[n_erase,n_mixing,n_loss,n_gradient,n_average]", *NOISE[5:]] if choice == "all" else [choice]
    )
    choices += ["~model.width"] if "model=noisy" in choices else []
    choices += ["~dataset.train_images", "~dataset.test_images"] if "dataset=noisy" in choices else []
    results = []
    for name in "ab":
        disturb()
        before = globals_now()
        results.append(train_run(tiny(*choices), tmp_path / name))
        assert str(globals_now()) == str(before)
    assert results[0]["status"] == "done", results[0]["message"]
    for key in ("train_nll", "test_nll", "val_nll"):
        assert results[0][key] == results[1][key]
    other = train_run(tiny(*choices, "seed=1"), tmp_path / "other")
    assert other["test_nll"] != results[0]["test_nll"]


def test_a_step_by_itself_puts_every_global_generator_back(noisy, tiny):
    trainer, batches = make_trainer(tiny("regularizer=[n_erase,n_mixing,n_loss,n_gradient]", "optimizer=noisy"))
    images, targets = next(batches.epoch(0))
    disturb()
    before = globals_now()
    first = trainer.step(images, targets, 3)
    assert str(globals_now()) == str(before)
    disturb()
    trainer, _ = make_trainer(tiny("regularizer=[n_erase,n_mixing,n_loss,n_gradient]", "optimizer=noisy"))
    assert torch.equal(trainer.step(images, targets, 3), first)


def test_one_slots_draws_do_not_shift_anothers(noisy, tiny, monkeypatch):
    draw = own_code.resolve("noisy.draw")

    def record(*choices):
        drawn = []
        monkeypatch.setattr("noisy.draw", lambda: drawn.append(draw()) or drawn[-1])
        trainer, batches = make_trainer(tiny(*choices, "optimizer=noisy", "model=noisy", "~model.width"))
        images, targets = next(batches.epoch(0))
        del drawn[:]
        trainer.step(images, targets, 3)
        return drawn

    alone, stacked = record(), record("regularizer=[n_erase,n_mixing,n_loss,n_gradient]")
    assert set(alone) < set(stacked)  # those of the model and the optimizer
    assert len(set(stacked)) == len(stacked)


def test_both_passes_of_sam_draw_the_same_whatever_the_generator(noisy, tiny):
    trainer, batches = make_trainer(
        tiny("regularizer=[sam,n_loss]", "regularizer.sam.rho=0", "model=noisy", "~model.width")
    )
    seen = []
    trainer.model.register_forward_hook(lambda model, given, out: seen.append(out.detach().clone()))
    images, targets = next(batches.epoch(0))
    trainer.step(images, targets, 0)
    trainer.step(images, targets, 1)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_planning_puts_back_what_a_users_own_has_drawn(noisy, plan):
    disturb()
    before = globals_now()
    arguments = ("regularizer=[n_erase,n_mixing,n_loss,n_gradient,n_average]", *NOISE[5:], "~model.width")
    ids = [planned.run_id for planned in plan(*arguments, "~dataset.train_images", "~dataset.test_images")]
    assert str(globals_now()) == str(before)
    disturb()
    assert ids == [p.run_id for p in plan(*arguments, "~dataset.train_images", "~dataset.test_images")]


RANDOM = """
from torch import nn
from torch.nn.functional import cross_entropy
from bench.regularizer.sam import SAM

class Loss(nn.Module):
    drawn = []
    def forward(self, logits, targets, random):
        self.drawn.append(random.random())
        return cross_entropy(logits, targets)

class Gradient(SAM):
    drawn = []
    def __call__(self, model, loss_closure, *, step=0, random=None):
        self.drawn.append(random.random())
        return super().__call__(model, loss_closure, step=step)
"""


def test_a_loss_and_a_gradient_rule_may_take_a_generator_of_their_own(tiny, plan, tmp_path):
    own = {"rules.py": RANDOM}
    for slot in ("loss", "gradient"):
        own[f"regularizer/d_{slot}.yaml"] = (
            f"# @package regularizer.d_{slot}\nslot: {slot}\n_target_: rules.{slot.title()}\n"
        ) + ("rho: 0.1\n" if slot == "gradient" else "")
    plugins.use_folder(write(tmp_path / "own", own))
    stack = "regularizer=[d_loss,d_gradient]"
    assert plan(stack)
    import rules

    def draw(*more):
        del rules.Loss.drawn[:], rules.Gradient.drawn[:]
        train(tiny(stack, *more))
        return [*rules.Loss.drawn], [*rules.Gradient.drawn]

    losses, gradients = draw()
    assert len(gradients) == len(set(gradients)) == 8
    assert losses[::2] == losses[1::2]  # the same in both passes
    assert len({*losses, *gradients}) == 16
    assert draw() == (losses, gradients)
    assert not {*draw("seed=1")[0]} & {*losses}
