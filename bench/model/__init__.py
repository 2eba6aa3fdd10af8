"""Models: one file per architecture, each a class of (channels, classes, ...) for images of 8x8 pixels upward.

A class that takes `image_size`, too, is given the images' (height, width). A model with a method `look_at(images)` is
shown normalised training images, once, before it is trained: the same ones in every arm and seed. A model may give its
logits (N, K), or an object or a mapping that holds them as `logits`, as Hugging Face's do.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from bench.config.own_code import is_published, make, resolve
from bench.config.plugins import config_files
from bench.config.settings import DESCRIBES, Choice
from bench.errors import UsageError
from bench.model.weights import load_weights


def build_model(
    choice: Choice, images: torch.Size, classes: int, load_images: Callable[[], Tensor] | None = None
) -> nn.Module:
    """The chosen model for images of shape (N, C, H, W), every weight drawn, or loaded where the choice says so.

    Args:
        choice: of a model.
        images: the shape of a batch.
        classes: K.
        load_images: gives images (N, C, H, W) to a model that looks at some; None: there are none.

    Raises:
        UsageError: weights that do not fit.
    """
    _, channels, height, width = images
    values = dict(choice.values)
    weights = values.pop("weights", None)
    if "image_size" in inspect.signature(resolve(values["_target_"])).parameters:
        values = {"image_size": (height, width), **values}
    model: nn.Module = make(values, channels, classes, path="model")
    with torch.no_grad():  # draws the weights of layers that learn their input's size, such as the mlp's first
        model.eval()(torch.zeros(1, channels, height, width))
    if not is_published(type(model).__module__):
        model.register_forward_hook(_take_logits)
    look_at: Any = getattr(model, "look_at", None)
    if look_at and load_images:
        look_at(load_images())
    if weights is not None:
        load_weights(model, weights, classes)
    return model


def make_model(name: str, channels: int, classes: int, **values: Any) -> nn.Module:
    """As `bench.make_model`."""
    files = {file.stem: file for file in config_files("model")}
    if name not in files:
        raise UsageError(f"there is no model {name}.\nThere are: {', '.join(files)}")
    known = {"weights": None, **yaml.safe_load(files[name].read_text("utf-8"))}
    for key in values:
        if key not in known or key in DESCRIBES:
            kinds = ", ".join(key for key in known if key not in DESCRIBES)
            raise UsageError(f"model {name} has no value {key}.\nIt has: {kinds}")
    known |= values
    weights = known.pop("weights")
    model: nn.Module = make(known, channels, classes, path="model")
    if weights is not None:
        load_weights(model, weights, classes)
    return model


def _take_logits(model: nn.Module, inputs: Any, output: Any) -> Any:
    """A forward hook: the logits of what the model gives; what holds none is handed on, for the checks to refuse."""
    if isinstance(output, Tensor | tuple):
        return output
    return output.get("logits", output) if isinstance(output, Mapping) else getattr(output, "logits", output)
