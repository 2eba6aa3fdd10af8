"""The average of a model's weights along its training, which is evaluated in place of the last ones.

What fills the slot `average` says after each step how far it moves; here it is kept, beside the weights and in their
dtype, float32. Training never sees it. The statistics of BatchNorm belong to other weights: for the average they are
made anew, by a pass over the training images in training mode and in float32 (Izmailov et al. 2018, sect. 3.2). These
are the batches of the run's first epoch as its steps see them before they are mixed, as in the authors' code:
augmented, and where the stack erases, erased. They are the same ones whenever the average is shown.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.model.buffers import kept_buffers, remake_statistics
from bench.rng import global_stream


class Averaged:
    """An average of a model's weights; as long as nothing has moved it there is none, and the weights are evaluated."""

    def __init__(self, model: nn.Module, device: torch.device, seed: int) -> None:
        self.model, self.device, self.seed = model, device, seed
        # Those that are not trained average to themselves, bit for bit.
        self.live = {name: p for name, p in model.named_parameters() if p.is_floating_point() or p.is_complex()}
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def move(self, share: float) -> None:
        """Moves it by a share in [0, 1] of the way to the weights as they are now; the first time all the way."""
        if share == 0:
            return
        if share == 1 or not self.weights:
            self.weights = {name: weight.detach().clone() for name, weight in self.live.items()}
        else:
            torch._foreach_lerp_([*self.weights.values()], [*self.live.values()], share)

    def use(self, batches: Iterable[Tensor]) -> None:
        """Puts it in the place of the model's weights, with statistics of its own by batches of images (N, C, H, W);
        without an average does nothing.

        To do so twice is to do it once: a run that goes on from a checkpoint of its last evaluation does.
        """
        if not self.weights:
            return
        self._write(self.weights)
        with global_stream(self.device, self.seed, "statistics"):
            remake_statistics(self.model, batches)

    @contextmanager
    def shown(self, batches: Iterable[Tensor]) -> Iterator[None]:
        """As `use`; at the end weights and all running state are as they were, bit for bit."""
        if not self.weights:
            yield
            return
        before = {name: weight.detach().clone() for name, weight in self.live.items()}
        with kept_buffers([*self.model.modules()]):
            try:
                self.use(batches)
                yield
            finally:
                self._write(before)

    @torch.no_grad()
    def _write(self, weights: Mapping[str, Tensor]) -> None:
        torch._foreach_copy_([*self.live.values()], [*weights.values()])

    def state_dict(self) -> dict[str, Any]:
        """What it needs to go on."""
        return {"weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        held = state["weights"]
        self.weights = {name: torch.empty_like(self.live[name]).copy_(held[name]) for name in self.live if held}
