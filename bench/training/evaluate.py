"""Logits of a split, and every metric of them: in float32 whatever the training's precision, metrics in float64."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.dataset import Data, Split
from bench.dataset.batches import normalise
from bench.errors import Diverged
from bench.machine.memory import ran_out, release
from bench.measure import OF_EVERY_SPLIT
from bench.measure.metric import accuracy

BATCH_SIZE = 512  # fixed, so that a run's numbers do not depend on its training batches


@torch.inference_mode()
def compute_logits(model: nn.Module, split: Split, data: Data) -> NDArray[np.float32]:
    """Logits (N, K) of a split's clean images, in evaluation mode; normalised as the training images of `data` are.

    Where memory does not suffice, as for a net in fp32 that was trained in bf16, batches are halved.

    Raises:
        Diverged: a logit is not finite.
    """
    model.eval()
    logits: NDArray[np.float32] = _compute(model, split, data, BATCH_SIZE).numpy()
    if not np.isfinite(logits).all():
        raise Diverged("the model's logits are not finite")
    return logits


def _compute(model: nn.Module, split: Split, data: Data, batch_size: int) -> Tensor:
    try:
        # Moved one by one: of all training images of a large set they would fill a GPU's memory.
        parts = [model(normalise(images, data)).float().cpu() for images in split.images.split(batch_size)]
        return torch.cat(parts)
    except Exception as error:
        if batch_size == 1 or not ran_out(error):
            raise
    release()  # here, where the error holds nothing of the batch any more
    return _compute(model, split, data, batch_size // 2)


def score(
    name: str,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    true_labels: NDArray[np.int64] | None = None,
) -> dict[str, float]:
    """Every metric of a split, named as in the tables: `<split>_<metric>`; nothing for an empty split.

    Args:
        name: the split's.
        logits: (N, K), finite.
        labels: (N,), in [0, K).
        true_labels: (N,), of training images whose labels are noisy.
    """
    if len(labels) == 0:
        return {}
    metrics = {each.columns[name]: each.function(logits, labels) for each in OF_EVERY_SPLIT if each.function}
    return metrics if true_labels is None else metrics | {"train_clean_accuracy": accuracy(logits, true_labels)}
