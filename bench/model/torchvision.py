"""torchvision's classifiers, with random weights."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from bench.errors import UsageError

# Heads beside the last one would need a loss of their own.
_ONE_HEAD = {"aux_logits": False, "init_weights": True}
LEAVE_OUT_DEPTH = (
    "Take a model.arch that has it, or leave out what sets it: list the others, such as 'regularizer=none,mixup,sam', "
    "without stochastic_depth."
)
_ARGS: dict[str, dict[str, Any]] = {"googlenet": _ONE_HEAD, "inception_v3": _ONE_HEAD}


def make_torchvision(
    channels: int,
    classes: int,
    arch: str,
    args: Mapping[str, Any],
    image_size: tuple[int, int] | None = None,
    stochastic_depth: float = 0.0,
) -> nn.Module:
    """The architecture with K = `classes` logits; it takes colour, so grey images are shown to it in three channels.

    Args:
        channels: 1 or 3.
        classes: K.
        arch: as torchvision names it.
        args: further arguments of torchvision's builder.
        image_size: (height, width) of the images, for architectures that are built for one size.
        stochastic_depth: of the last block, in [0, 1), as `_set_depth` has it. At 0 it is what the architecture has by
            itself: 0.1 or more in those of convnext, efficientnet, maxvit and swin.

    Raises:
        UsageError: a classifier without the stochastic depth that is set.
        ValueError: no classifier of that name, other channels, or weights among `args`.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if arch not in known:
        raise ValueError(f"torchvision has no classifier {arch}, but {like(arch, known)}")
    if channels not in (1, 3):
        raise ValueError(f"torchvision's classifiers take images of 3 channels, or of 1, not of {channels}")
    check_args(args)
    check_depth(args, "stochastic_depth_prob", stochastic_depth)
    sized: dict[str, Any] = {}
    if image_size and arch.startswith("vit_"):
        sized = {"image_size": image_size[0]}
    if image_size and arch.startswith("maxvit"):
        sized = {"input_size": image_size}
    given = {**_ARGS.get(arch, {}), **sized, **args}
    model: nn.Module = models.get_model(arch, weights=None, num_classes=classes, **given)
    if stochastic_depth:
        _set_depth(model, arch, stochastic_depth)
    if channels == 1:
        model.register_forward_pre_hook(_show_thrice)
    return model


def check_args(args: Mapping[str, Any]) -> None:
    """Raises ValueError where a library's arguments name what regbench sets: weights, or the number of classes."""
    if not {"weights", "weights_backbone", "pretrained", "pretrained_backbone", "checkpoint_path"}.isdisjoint(args):
        raise ValueError(
            "model.args cannot name weights: save published ones by torch.save(model.state_dict(), FILE), and give "
            "model.weights=FILE, so that they are part of the identity"
        )
    if not {"num_classes", "in_chans"}.isdisjoint(args):
        raise ValueError("model.args cannot set the numbers of classes and channels, which are the data's")


def check_depth(args: Mapping[str, Any], name: str, stochastic_depth: float) -> None:
    """Raises ValueError where stochastic depth is set twice: also among a library's arguments, by its own name."""
    if stochastic_depth and name in args:
        raise ValueError(
            f"model.args has {name}={args[name]}, and model.stochastic_depth is {stochastic_depth}: set it in one place"
        )


def _set_depth(model: nn.Module, arch: str, last: float) -> None:
    """Gives the last block that probability, and the others theirs in torchvision's own proportion.

    That is what its argument stochastic_depth_prob does, which not every architecture takes from outside; but the last
    block of an efficientnet has all of it, not (L - 1) / L.
    """
    from torchvision.ops import StochasticDepth

    layers = [module for module in model.modules() if isinstance(module, StochasticDepth)]
    if not layers:
        raise UsageError(
            f"torchvision's {arch} has no stochastic depth: those of convnext, efficientnet, maxvit and swin have.\n"
            f"{LEAVE_OUT_DEPTH}"
        )
    largest = max(layer.p for layer in layers)
    for layer in layers:
        layer.p *= last / largest


def like(name: str, known: list[str]) -> str:
    """The known names that are most like one that is not known."""
    return ", ".join(get_close_matches(name, known, 5, cutoff=0)) + ", ..."


def _show_thrice(model: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return inputs[0].expand(-1, 3, -1, -1)
