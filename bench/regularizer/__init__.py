"""The slots that regularizers fill, and how a stack of them becomes a training step.

erase     (images, random) -> images, once per batch, before mixing; neutral: as they are
mixing    (images, targets, random) -> (images, targets), once per batch; neutral: as they are
loss      (logits, targets) -> scalar; neutral: cross-entropy
gradient  (model, loss closure, step) -> detached loss, and fills `.grad`; neutral: one backward pass
average   (step, steps, steps of an epoch) -> how far the average of the weights moves to those after that step, and
          what is evaluated is the average; neutral: there is none

A loss or a gradient rule that also takes `random` is given a generator of its own, as erase and mixing are: a function
of seed and step.

Another kind, `slot: setting`, is a regularizer that lives elsewhere: it sets one value of the model or the optimizer.
Targets are probabilities from the start, so smoothing and mixing commute and the order of a stack has no meaning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from inspect import signature
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.config.own_code import make
from bench.config.settings import Choice
from bench.rng import stream

Erase = Callable[[Tensor, np.random.Generator], Tensor]
Mixing = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]
Loss = Callable[..., Tensor]  # of logits and targets
# Of a step, from 0, the run's steps, and those of an epoch: the share in [0, 1] of the way to the weights after that
# step by which the average of the weights moves. 1/n makes the mean of n; the first that is above 0 counts as 1.
Average = Callable[[int, int, int], float]


class GradientRule(Protocol):
    """Computes the gradient that the optimizer steps along."""

    @property
    def evaluations_per_step(self) -> int | Fraction:
        """Forward and backward passes over a batch that one call costs, on average; the first calls cost the most."""

    def __call__(self, model: nn.Module, loss_closure: Callable[[], Tensor], *, step: int = 0) -> Tensor:
        """Detached loss, a scalar, of the first pass; discards gradients that it finds, and fills `.grad`.

        Args:
            model: in training mode, its weights in float32; they are as before when the call returns.
            loss_closure: the batch's loss anew, a float32 scalar with its graph; may be called as often as it takes,
                and draws the same dropout each time.
            step: how many steps the run has taken, from 0.
        """


@runtime_checkable
class SetsLearningRate(Protocol):
    """An average that has its weights trained at a learning rate of its own, such as SWA."""

    def learning_rate(self, step: int, steps: int) -> float | None:
        """Of the optimizer's fastest group at a step of so many; None: the schedule's."""


@dataclass(frozen=True)
class Backward:
    """The neutral gradient rule: one forward and backward pass."""

    evaluations_per_step: ClassVar[int] = 1

    def __call__(self, model: nn.Module, loss_closure: Callable[[], Tensor], *, step: int = 0) -> Tensor:
        """Detached loss; `.grad` holds its gradient."""
        model.zero_grad()
        loss = loss_closure()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


def keep_images(images: Tensor, random: np.random.Generator) -> Tensor:
    """The neutral erasing: images as they are."""
    return images


def keep(images: Tensor, targets: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The neutral mixing: images and targets as they are."""
    return images, targets


def no_average(step: int, steps: int, per_epoch: int) -> float:
    """The neutral average: none ever begins, and the weights themselves are evaluated."""
    return 0.0


@dataclass(frozen=True)
class Slots:
    """What a stack puts into the training step, and after it; each default is the slot's neutral element."""

    erase: Erase = keep_images
    mixing: Mixing = keep
    loss: Loss = cross_entropy
    gradient: GradientRule = Backward()
    average: Average = no_average

    def random(self, slot: str, seed: int, step: int) -> dict[str, np.random.Generator]:
        """The keyword `random` of a loss or a gradient rule that takes one: the same in each pass of a step."""
        return {"random": stream(seed, slot, step)} if slot in self._drawing else {}

    @cached_property
    def _drawing(self) -> frozenset[str]:
        return frozenset(slot for slot in ("loss", "gradient") if _takes_random(getattr(self, slot)))


def _takes_random(filling: Any) -> bool:
    try:
        return "random" in signature(filling.forward if isinstance(filling, nn.Module) else filling).parameters
    except (TypeError, ValueError):  # of what is written in C
        return False


def make_slots(regularizers: tuple[Choice, ...]) -> Slots:
    """The step's slots as a checked stack fills them."""
    filling = [r for r in regularizers if r.slot in Slots.__dataclass_fields__]
    filled: dict[str, Any] = {r.slot: make(r.values, path=f"regularizer.{r.name}") for r in filling}
    return Slots(**filled)
