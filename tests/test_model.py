import sys

import pytest
import torch
from conftest import make_model, make_trainer, write
from torch import nn

from bench.config import CONF, plugins
from bench.errors import UsageError
from bench.model import build_model
from bench.training.run import train_run

MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
OURS = [name for name in MODELS if name not in ("timm", "torchvision")]

# As published, for 3 channels and 10 classes. He et al. give 0.27 M for depth 20, with shortcuts of option A. ResNet-18
# with the CIFAR stem has 11.17 M in the code that CIFAR papers share; its pre-activation form has 11,171,146 there, and
# ours 1,024 more for the BatchNorm after the last block. WRN-28-10: 36.5 M, WRN-16-4: 2.7 M (Zagoruyko & Komodakis).
PUBLISHED = {
    "resnet8": 75_290,
    "resnet20": 269_722,
    "resnet18": 11_173_962,
    "preact_resnet18": 11_171_146 + 1_024,
    "wide_resnet": 2_748_890,
    "wide_resnet28_10": 36_479_194,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    with torch.device("meta"):
        model = make_model(name, channels=3, classes=10)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("name", [name for name in OURS if name != "wide_resnet28_10"])
@pytest.mark.parametrize(("channels", "classes", "height", "width"), [(1, 2, 8, 8), (3, 7, 28, 28), (4, 10, 9, 16)])
def test_any_channels_classes_and_sizes_from_8_upward(name, channels, classes, height, width):
    model = make_model(name, channels, classes)
    logits = model(torch.randn(2, channels, height, width))
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", OURS)
def test_dropout_is_where_it_is_set_and_0_otherwise(name):
    def rates(**values):
        with torch.device("meta"):
            return {m.p for m in make_model(name, 3, 10, **values).modules() if isinstance(m, nn.Dropout)}

    assert rates() == {0.0}
    assert 0.25 in rates(dropout=0.25)


@pytest.mark.parametrize("depth", [7, 2, 21])
def test_a_depth_that_the_family_lacks_is_an_error(depth):
    with pytest.raises(ValueError, match="depth must be 6n"):
        make_model("resnet20", 3, 10, depth=depth)
    with pytest.raises(ValueError, match="depth must be 6n"):
        make_model("wide_resnet", 3, 10, depth=depth)


def test_he_init_has_its_variance():
    torch.manual_seed(0)
    conv = make_model("resnet20", 3, 10)[-5].conv2  # 64 to 64 channels
    assert conv.weight.var().item() == pytest.approx(2 / (64 * 9), rel=0.05)


def test_fastnet_whitens_the_patches_that_it_is_shown():
    torch.manual_seed(0)
    images = (torch.randn(64, 3, 10, 12) @ torch.randn(12, 12)).cumsum(2)  # neighbours and rows are correlated
    images /= images.std()
    model = make_model("fastnet", 3, 10)
    model.look_at(images)
    given = model[0](images).transpose(0, 1).flatten(1).detach().double()
    assert torch.equal(given[:12], -given[12:])
    covariance = given[:12] @ given[:12].T / given.shape[1]
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-4
    patches = torch.nn.functional.unfold(images.double(), 2).transpose(0, 1).flatten(1)  # by torch's own im2col
    variances = torch.linalg.eigvalsh(patches @ patches.T / patches.shape[1])
    torch.testing.assert_close(covariance.diag(), variances / (variances + 5e-4), rtol=1e-4, atol=1e-4)


def test_fastnets_frozen_parts_stay_and_its_biases_learn_64_times_as_fast(tiny):
    plain = ("optimizer.sgd.momentum=0", "optimizer.sgd.nesterov=false")
    run = tiny("model=fastnet", "model.width=4", "train.epochs=1", *plain)
    trainer, batches = make_trainer(run)
    start = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    assert not torch.equal(start["0.weight"], make_model("fastnet", 1, 4, width=4)[0].weight)  # it has looked at images
    images, targets = next(batches.epoch(0))
    effective = trainer.model[4].bias.detach().clone()
    trainer.step(images, targets, 0)
    now = dict(trainer.model.named_parameters())
    frozen = [name for name in start if not now[name].requires_grad]
    assert frozen == ["0.weight", *(f"{i}.weight" for i in (4, 7, 11, 14, 18, 21))]
    assert all(torch.equal(start[name], now[name]) for name in frozen)
    grad = now["4.parametrizations.bias.original"].grad / 8  # with respect to the bias itself
    torch.testing.assert_close(trainer.model[4].bias, effective - 64 * run.optimizer.values["lr"] * grad)


# --- models of other libraries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arch", "weights"),
    [
        ("torchvision", "resnet18", 11_181_642),
        ("torchvision", "vit_b_32", None),
        ("torchvision", "googlenet", None),
        ("timm", "resnet18", 11_181_642),
        ("timm", "vit_tiny_patch16_224", None),
        ("timm", "resnet10t.c3_in1k", None),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_architectures_of_other_libraries_take_grey_and_colour_of_the_datas_size(name, arch, weights, channels, tiny):
    size = ("dataset.image_size=32", f"dataset.channels={channels}")
    run = tiny(*(o for o in size), f"model={name}", f"model.arch={arch}", "~model.width")
    assert run.model.name == f"{name}/{arch}"
    images = torch.randn(2, channels, 32, 32)
    with torch.random.fork_rng():
        model = build_model(run.model, images.shape, classes=10)
        assert model.train()(images).shape == (2, 10)
    if weights and channels == 3:
        assert sum(p.numel() for p in model.parameters()) == weights


def test_an_architecture_that_a_library_lacks_is_an_error_that_names_some_like_it(plan):
    for name, like in (("torchvision", "resnet18"), ("timm", "resnet18")):
        with pytest.raises(UsageError, match=rf"has no classifier resnet_18, but .*{like}"):
            plan(f"model={name}", "model.arch=resnet_18", "~model.width")


def test_further_arguments_reach_the_architecture_and_the_identity(plan):
    plain, more = (
        plan("model=timm", "model.arch=resnet10t", "~model.width", "dataset.image_size=32", *args)[0]
        for args in ((), ("model.args={drop_path_rate:0.1}",))
    )
    assert plain.run_id != more.run_id
    with pytest.raises(UsageError, match="nonsense"):
        plan("model=timm", "model.args.nonsense=1", "~model.width")
    with pytest.raises(UsageError, match=r"model\.weights=FILE"):
        plan("model=timm", "model.args.checkpoint_path=w.pt", "~model.width")


def test_images_that_an_architecture_cannot_take_are_told_before_training(plan):
    with pytest.raises(UsageError, match="model torchvision/alexnet"):
        plan("model=torchvision", "model.arch=alexnet", "~model.width", "dataset.image_size=32")
    with pytest.raises(UsageError, match="not of 4"):
        plan("model=torchvision", "~model.width", "dataset.channels=4")


def test_a_model_that_cannot_be_built_without_memory_is_tried_with(plan):
    assert plan("model=torchvision", "model.arch=regnet_x_400mf", "~model.width", "dataset.image_size=32")


def test_without_timm_the_message_says_how_to_get_it(plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"pip install 'regbench\[timm\]'"):
        plan("model=timm", "~model.width")


@pytest.mark.parametrize("name", ["torchvision", "timm"])
@pytest.mark.parametrize(
    "args", ["weights: DEFAULT", "pretrained: true", "weights_backbone: DEFAULT", "num_classes: 7"]
)
def test_arguments_that_regbench_sets_are_told_before_training(name, args, plan):
    with pytest.raises(UsageError, match=r"model\.args cannot") as caught:
        plan(f"model={name}", "~model.width", f"model.args={{{args}}}", "dataset.image_size=32")
    assert len(str(caught.value).splitlines()) <= 3


# --- models that give more than logits -------------------------------------------------------------------------------

OUTPUT = """
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple
import torch
from torch import nn

@dataclass
class Out:
    logits: torch.Tensor
    hidden: torch.Tensor

class ModelOutput(OrderedDict):  # as Hugging Face's
    def __getattr__(self, name):
        return self[name]

class Two(NamedTuple):
    logits: torch.Tensor
    hidden: torch.Tensor

FORMS = {
    "plain": lambda logits, hidden: logits,
    "object": Out,
    "mapping": lambda logits, hidden: {"hidden": hidden, "logits": logits},
    "output": lambda logits, hidden: ModelOutput(logits=logits, hidden=hidden),
    "tuple": Two,
    "other": lambda logits, hidden: {"hidden": hidden},
    "object_in_training": lambda logits, hidden: Out(logits, hidden) if torch.is_grad_enabled() else logits,
    "tuple_in_evaluation": lambda logits, hidden: logits if torch.is_grad_enabled() else (logits, hidden),
}

class Net(nn.Module):
    def __init__(self, channels, classes, form, dropout=0.0):
        super().__init__()
        self.first, self.last, self.form = nn.LazyLinear(8), nn.Linear(8, classes), FORMS[form]

    def forward(self, images):
        hidden = self.first(images.flatten(1)).relu()
        return self.form(self.last(hidden), hidden)
"""


@pytest.fixture
def outputs(tmp_path):
    """A user's model `outputs`, of which model.form says what it gives."""
    plugins.use_folder(
        write(tmp_path / "own", {"outputs.py": OUTPUT, "model/outputs.yaml": "_target_: outputs.Net\nform: plain\n"})
    )
    return "model=outputs", "~model.width"


@pytest.mark.parametrize("form", ["object", "mapping", "output", "object_in_training"])
@pytest.mark.parametrize("stack", ["mixup", "sam"])
def test_a_models_logits_are_taken_from_what_it_gives(form, stack, outputs, plan, tmp_path):
    runs = [plan(*outputs, f"model.form={each}", f"regularizer={stack}")[0].run for each in ("plain", form)]
    plain, taken = (train_run(run, tmp_path / run.model.values["form"]) for run in runs)
    assert taken["status"] == "done", taken["message"]
    assert taken["test_nll"] == plain["test_nll"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch.compile looks at it
def test_a_compiled_models_logits_are_taken_from_what_it_gives(outputs, tiny):
    def losses(form):
        trainer, batches = make_trainer(tiny(*outputs, f"model.form={form}", "regularizer=sam", "train.compile=true"))
        trainer.warm_up(batches)
        assert trainer.note == ""
        return [epoch.train_loss for epoch in trainer.epochs(batches)]

    assert losses("object") == pytest.approx(losses("plain"), rel=1e-6)


@pytest.mark.parametrize(
    ("form", "said"),
    [("tuple", "gives a Two"), ("other", "gives a dict"), ("tuple_in_evaluation", "gives a tuple in evaluation")],
)
def test_what_holds_no_logits_by_that_name_is_told_before_training(form, said, outputs, plan):
    with pytest.raises(UsageError, match=f"model outputs on batches.*{said} instead of logits"):
        plan(*outputs, f"model.form={form}")


# --- weights to start from -------------------------------------------------------------------------------------------
