import pytest
import torch
from torch import nn

from bench import CONF
from bench.model import make_model

MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))

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


@pytest.mark.parametrize("name", [name for name in MODELS if name != "wide_resnet28_10"])
@pytest.mark.parametrize(("channels", "classes", "height", "width"), [(1, 2, 8, 8), (3, 7, 28, 28), (4, 10, 9, 16)])
def test_any_channels_classes_and_sizes_from_8_upward(name, channels, classes, height, width):
    model = make_model(name, channels, classes)
    logits = model(torch.randn(2, channels, height, width))
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
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


def test_an_unknown_model_is_an_error_that_names_the_known():
    with pytest.raises(ValueError, match="resnet20"):
        make_model("resnet21", 3, 10)


def test_he_init_has_its_variance():
    torch.manual_seed(0)
    conv = make_model("resnet20", 3, 10)[-5].conv2  # 64 to 64 channels
    assert conv.weight.var().item() == pytest.approx(2 / (64 * 9), rel=0.05)
