"""A trained model, from a run's kept weights: raw images in, class probabilities out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.config.plugins import config_files
from bench.config.settings import Choice
from bench.disk.gone import is_file
from bench.errors import UsageError
from bench.model import build_model
from bench.record.folder import WEIGHTS, read_result, run_folder


class TrainedModel(nn.Module):
    """A run's model in evaluation mode, with its normalisation.

    Attributes:
        network: the model itself, from normalised images (N, C, H, W) in float32 to logits (N, K).
        mean, std: of the training images by channel, (C,).
        class_names: in the order of the probabilities; empty where classes have no names.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor, class_names: list[str]) -> None:
        super().__init__()
        self.network, self.class_names = network, class_names
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def logits(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        """Logits (N, K) in float32 of uint8 images (N, H, W, C), as in `bench.dataset.Source`.

        Raises:
            ValueError: images of another type or shape.
        """
        images = torch.as_tensor(images)
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != len(self.mean):
            raise ValueError(
                f"images must be uint8 (N, H, W, {len(self.mean)}), got {images.dtype} {tuple(images.shape)}"
            )
        images = images.to(self.mean.device)
        logits: Tensor = self.network(((images - self.mean) / self.std).permute(0, 3, 1, 2))
        return logits.float()

    def forward(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        """Probabilities (N, K); arguments as those of `logits`."""
        return self.logits(images).softmax(1)


def load_model(run_id: str, results: Path) -> TrainedModel:
    """As `bench.load_model`."""
    folder = run_folder(results, run_id)
    record = read_result(folder)
    if record is None:
        raise UsageError(f"there is no run {run_id} in {results}.\nruns.csv has the run_id of each run.")
    if not is_file(folder / WEIGHTS):
        raise UsageError(
            f"the weights of run {run_id} were not kept.\n"
            "The command that asked for it, with keep_weights=true, trains it once more and keeps them: they stand in "
            f"{results}/<exp>/commands.txt"
        )
    if "image_shape" not in record:
        raise UsageError(
            f"run {run_id} was recorded by an older regbench, which did not note the images' shape.\n"
            "Train it anew: the command that asked for it, with force=true keep_weights=true"
        )
    mean, std = (torch.tensor(record["normalisation"][key]) for key in ("mean", "std"))
    shape = torch.Size((1, *record["image_shape"]))
    choice = _read_choice(record["model"], record["config"], folder / WEIGHTS)
    network = build_model(choice, shape, record["classes"])
    network.to(memory_format=torch.channels_last)  # as it was trained
    return TrainedModel(network, mean, std, record["class_names"]).eval()


def _read_choice(word: str, config: Mapping[str, Any], weights: Path) -> Choice:
    """The model that a record's config describes: a word such as timm/resnet18 stands for a value of its file."""
    name, _, of_word = word.partition("/")
    files = {file.stem: file for file in config_files("model")}
    values: dict[str, Any] = yaml.safe_load(files[name].read_text("utf-8")) if name in files else {}
    values |= {key.removeprefix("model."): value for key, value in config.items() if key.startswith("model.")}
    if "word" in values:
        values[values["word"]] = of_word
    for key, value in config.items():  # what a regularizer set, such as dropout
        if key.endswith(".sets") and str(value).startswith("model."):
            values[value.removeprefix("model.")] = config[f"{key.removesuffix('.sets')}.value"]
    return Choice(word, {**values, "weights": str(weights)})
