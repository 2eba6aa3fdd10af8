"""A trained model's test metrics on corrupted images, and how smooth it is between and around the clean ones.

All runs of a seed see the same noise and the same pairs.
"""

from collections import defaultdict
from collections.abc import Sequence
from math import nan

import numpy as np
import torch
from torch import Tensor, nn

from bench.dataset import Data
from bench.dataset.batches import normalise
from bench.measure.arrays import Labels
from bench.measure.metric import accuracy, ece, nll
from bench.measure.probed import Measured
from bench.probe.corruption import CORRUPTIONS, corrupted_copies
from bench.probe.linearity import input_gradient_norm, linearity_deviation
from bench.probe.passes import batch_size, untouched
from bench.rng import stream

SAMPLE = 1000  # test images for what is no metric of the test set
METRICS = {"accuracy": accuracy, "nll": nll, "ece": ece}
Rows = list[dict[str, str | float]]


def measure_robustness(model: nn.Module, data: Data, seed: int) -> Measured:
    """The columns of `robustness`; the rows are the metrics of each corrupted copy of the test set."""
    test = data.test
    order = torch.from_numpy(stream(seed, "lines").permutation(len(test))[:SAMPLE]).to(test.labels.device)
    images, labels = normalise(test.images[order], data), test.labels[order]
    with untouched(model, seed):
        rows = score_corrupted(model, data, seed)
        numbers = summarise(rows)
        numbers["linearity_deviation"] = linearity_deviation(model, images)
        numbers["input_gradient_norm"] = input_gradient_norm(model, images, labels)
    return Measured(numbers, rows)


@torch.no_grad()
def score_corrupted(model: nn.Module, data: Data, seed: int) -> Rows:
    """A row for the clean test images, as corruption "none" of strength 0, and one for each corrupted copy of them.

    Its metrics are NaN where a logit is not finite. Images are scaled by the largest value in the test set: 255, or
    what stands for white, as 16 does in digits.
    """
    size = batch_size(data.test.images)
    white = max(1, *(int(pixels.max()) for pixels in data.test.images.split(size)))
    logits: dict[tuple[str, float], list[Tensor]] = defaultdict(list)
    for position, pixels in enumerate(data.test.images.split(size)):
        images = pixels.permute(0, 3, 1, 2) / white
        drawn = stream(seed, "noise", position).standard_normal(images.shape, dtype=np.float32)
        noise = torch.from_numpy(drawn).to(images.device)
        for name, strength, copy in (("none", 0.0, images), *corrupted_copies(images, noise)):
            logits[name, strength].append(model(normalise(copy.permute(0, 2, 3, 1) * white, data)).float().cpu())
    labels = data.test.labels.cpu().numpy()
    return [
        {"corruption": name, "strength": strength, **_score(torch.cat(parts), labels)}
        for (name, strength), parts in logits.items()
    ]


def _score(logits: Tensor, labels: Labels) -> dict[str, float]:
    values = logits.numpy()
    if not np.isfinite(values).all():
        return dict.fromkeys(METRICS, nan)
    return {name: metric(values, labels) for name, metric in METRICS.items()}


def summarise(rows: Rows) -> dict[str, float]:
    """The columns that are means over the rows: of all corruptions, and of each."""

    def mean(metric: str, names: Sequence[str]) -> float:
        return float(np.mean([float(row[metric]) for row in rows if row["corruption"] in names]))

    numbers = {f"corrupted_{metric}": mean(metric, [*CORRUPTIONS]) for metric in METRICS}
    for name in CORRUPTIONS:
        numbers[f"{name}_accuracy"] = mean("accuracy", [name])
        numbers[f"{name}_nll_rise"] = mean("nll", [name]) - mean("nll", ["none"])
    return numbers
