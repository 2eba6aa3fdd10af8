"""The training step, and the epochs around it.

A step is a fixed sentence with six replaceable words: erase parts of the images, mix the batch, compute the loss,
compute the gradient, step the optimizer, move the average of the weights. Nothing here branches on a method's name.
Nothing waits for the device but the end of an epoch, when the losses are read, fp16's gradient scaling, and adam_sgd
once, where it switches.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from bench.config.own_code import is_published
from bench.config.settings import Run
from bench.dataset.batches import Batches
from bench.errors import Diverged
from bench.machine.memory import ran_out
from bench.model.buffers import has_statistics, kept_buffers
from bench.regularizer import Slots, keep, keep_images, no_average
from bench.rng import global_stream, stream
from bench.training.average import Averaged
from bench.training.budget import evaluations_at_end, total_steps, warmup_steps
from bench.training.compile import compile_model, hit_limit
from bench.training.rates import base_lr, largest_lr, plan_factors, scale_lrs

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Epoch:
    """What an epoch's training steps gave: the mean objective, the last step's lr (the largest of the optimizer's
    groups), and their time in seconds; `number` counts from 1 up to the run's `epochs`."""

    number: int
    epochs: int
    steps: int
    train_loss: float
    lr: float
    seconds: float


class Pauses(Protocol):
    """What may happen between two steps, and is not counted as training."""

    def due(self) -> bool:
        """Whether something is to be done now."""

    def write(self, trainer: "Trainer") -> None:
        """Does it."""


@runtime_checkable
class PlansSteps(Protocol):
    """An optimizer whose steps depend on how many of them there are."""

    def plan(self, steps: int) -> None:
        """Says how many the training has."""


@dataclass
class Trainer:
    """Trains `model` by the run's settings, with what its stack of regularizers puts into the slots."""

    run: Run
    model: nn.Module
    slots: Slots
    optimizer: Optimizer
    device: torch.device
    scaler: torch.amp.GradScaler = field(init=False)
    averaged: Averaged = field(init=False)
    # The position: steps made, the epoch under way, the losses of its steps so far, and their time in seconds.
    steps: int = 0
    epoch: int = 0
    losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""  # why the model is trained as it is, or goes on so, where it was to be compiled

    def __post_init__(self) -> None:
        # Only fp16 needs its gradient scaled; disabled, the scaler hands everything through.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.run.train.precision == "fp16")
        self.forward = compile_model(self.model) if self.run.train.compile else self.model
        self.one = torch.ones((), device=self.device)
        self.averaged = Averaged(self.model, self.device, self.run.seed)
        self.own = _find_own(self)

    def step(self, images: Tensor, targets: Tensor, step: int) -> Tensor:
        """Trains on one batch, images (N, C, H, W) and targets (N, K); the detached loss stays on the device."""
        images = self._erase(images, step)
        if self.slots.mixing is not keep:
            with self._seeded("mixing", step):
                images, targets = self.slots.mixing(images, targets, stream(self.run.seed, "mixing", step))
        loss = self._gradient(images, targets, step) / self.scaler.scale(self.one)  # the scale stays on the device
        self.scaler.unscale_(self.optimizer)
        if self.run.train.clip_norm is not None:
            clip_grad_norm_(self.model.parameters(), self.run.train.clip_norm)
        with self._seeded("optimizer", step):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def _erase(self, images: Tensor, step: int) -> Tensor:
        if self.slots.erase is keep_images:  # to make a generator takes longer than some nets' passes
            return images
        with self._seeded("erase", step):
            return self.slots.erase(images, stream(self.run.seed, "erase", step))

    def unmixed(self, batches: Batches) -> Iterator[Tensor]:
        """The images (N, C, H, W) of the first epoch's batches, as its steps see them before they are mixed."""
        for step, (images, _) in enumerate(batches.epoch(0)):
            yield self._erase(images, step)

    def move_average(self, step: int, steps: int, per_epoch: int) -> None:
        """Moves the average of the weights, where the stack has one, to those after a step of so many."""
        if self.slots.average is not no_average:
            with self._seeded("average", step):
                share = self.slots.average(step, steps, per_epoch)
            self.averaged.move(share)

    def evaluations_at_end(self, per_epoch: int) -> int:
        """Gradient evaluations that come after the last step."""
        return evaluations_at_end(self.slots.average, has_statistics(self.model), per_epoch)

    def _gradient(self, images: Tensor, targets: Tensor, step: int) -> Tensor:
        """Fills `.grad`; the detached loss."""
        random = self.slots.random("gradient", self.run.seed, step)
        with self._seeded("gradient", step):
            return self.slots.gradient(self.model, lambda: self._loss(images, targets, step), step=step, **random)

    def _loss(self, images: Tensor, targets: Tensor, step: int) -> Tensor:
        """The loss to differentiate.

        A gradient rule may call it twice. Both passes draw the same dropout masks, and each enters autocast anew: one
        context around both would hand the first pass's low-precision weights to the second.
        """
        seed, torch_only = self.run.seed, "model" not in self.own
        with global_stream(self.device, seed, "dropout", step, torch_only=torch_only), self.autocast():
            logits = self.predict(images)
        with self._seeded("loss", step):
            loss = self.slots.loss(logits.to(targets.dtype), targets, **self.slots.random("loss", seed, step))
        return self.scaler.scale(loss)

    def predict(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W), by the compiled model as long as there is one."""
        try:
            logits: Tensor = self.forward(images)
        except Exception as error:
            if not hit_limit(error):
                raise
            self.forward = self.model
            self.note = f"not compiled after step {self.steps}: another graph at each call"
            logits = self.forward(images)
        return logits

    def _seeded(self, part: str, step: int) -> AbstractContextManager[None]:
        """The context of a part of the step: where it is a user's own, the global generators are its stream's."""
        return global_stream(self.device, self.run.seed, part, step) if part in self.own else nullcontext()

    @property
    def compiled(self) -> bool:
        """Whether the model is to be compiled, and nothing has kept it from being so."""
        return self.forward is not self.model

    def autocast(self) -> AbstractContextManager[None]:
        """The context of a forward pass in the run's precision."""
        dtype = DTYPES[self.run.train.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype is not torch.float32)

    def epochs(self, batches: Batches, pauses: Pauses | None = None) -> Iterator[Epoch]:
        """Trains epoch after epoch from its position on, as long as the budget lasts.

        Raises:
            Diverged: a loss is not finite.
        """
        train, per_epoch = self.run.train, batches.per_epoch
        per_step, at_end = self.slots.gradient.evaluations_per_step, self.evaluations_at_end(per_epoch)
        steps = total_steps(train, per_epoch, per_step, at_end)
        epochs, warmup = ceil(steps / per_epoch), warmup_steps(train, per_epoch)
        factor = plan_factors(self.optimizer, self.slots.average, train.schedule, steps, warmup)
        if isinstance(self.optimizer, PlansSteps):
            self.optimizer.plan(steps)
        while self.epoch < epochs:
            self.model.train()
            started = time.perf_counter()
            first = self.epoch * per_epoch
            last = min(first + per_epoch, steps) - 1
            left = range(first + len(self.losses), last + 1)
            with closing(batches.epoch(self.epoch, len(self.losses))) as coming:  # a thread may read ahead for it
                for step, (images, targets) in zip(left, coming):  # noqa: B905
                    scale_lrs(self.optimizer, factor(step))
                    self.losses.append(self.step(images, targets, step))
                    self.move_average(step, steps, per_epoch)
                    self.steps = step + 1
                    if pauses and pauses.due():
                        self.synchronise()
                        self.seconds += time.perf_counter() - started
                        pauses.write(self)
                        started = time.perf_counter()
            train_loss = _read_losses(self.losses, first)
            lr = largest_lr(self.optimizer) * factor(last)
            seconds = self.seconds + time.perf_counter() - started
            done, self.epoch, self.losses, self.seconds = len(self.losses), self.epoch + 1, [], 0.0
            yield Epoch(self.epoch, epochs, done, train_loss, lr, seconds)

    def state_dict(self) -> dict[str, Any]:
        """All that a trainer of the same run needs to go on from here, as tensors and plain values."""
        return {
            "steps": self.steps,
            "epoch": self.epoch,
            "losses": torch.stack(self.losses) if self.losses else torch.empty(0),
            "seconds": self.seconds,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.steps, self.epoch, self.seconds = state["steps"], state["epoch"], state["seconds"]
        self.losses = list(state["losses"].to(self.device))
        rates = [base_lr(group) for group in self.optimizer.param_groups]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for group, rate in zip(self.optimizer.param_groups, rates, strict=False):
            group.setdefault("base_lr", rate)  # an older regbench's checkpoint has none

    def _parts(self) -> dict[str, Any]:
        """What has a state: model, optimizer, gradient scaler, the average, and a slot's filling where it keeps any."""
        slots = {name: filling for name, filling in vars(self.slots).items() if hasattr(filling, "load_state_dict")}
        # An older regbench's checkpoint has no average, and its run none to go on from.
        averaged = {} if self.slots.average is no_average else {"averaged": self.averaged}
        return {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler, **averaged, **slots}

    def synchronise(self) -> None:
        """Waits for the device, so that a clock shows the truth."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def warm_up(self, batches: Batches) -> None:
        """Has torch.compile and CUDA's libraries start before the clock does: one gradient, its traces wiped out."""
        if not self.run.train.compile and self.device.type == "cpu":
            return
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        images, targets = next(batches.epoch(0))
        self.model.train()
        with kept_buffers([*self.model.modules()]):  # also those that are no part of a state dict
            try:
                self._gradient(images, targets, 0)
            except Exception as error:  # of the model itself, or whatever a compiler makes of it
                if not self.run.train.compile or ran_out(error):
                    raise
                self.forward = self.model
                self._gradient(images, targets, 0)
                self.note = f"not compiled: {type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"
        self.model.load_state_dict(before)
        self.synchronise()


def _find_own(trainer: Trainer) -> frozenset[str]:
    """Which parts of the step are, or may hold, a user's own code, which may draw from any global generator.

    Published code draws from torch's alone, in the model's forward pass. The gradient rule runs the model's hooks, too.
    """
    run, parts = trainer.run, {name: [getattr(trainer.slots, name)] for name in Slots.__dataclass_fields__}
    parts |= {"model": [*trainer.model.modules()], "optimizer": [trainer.optimizer]}
    places = {name: {str(part.__module__) for part in held} for name, held in parts.items()}
    choices = {"model": run.model, "optimizer": run.optimizer, **{each.slot: each for each in run.regularizers}}
    for name in places.keys() & choices.keys():
        places[name].add(choices[name].values["_target_"])
    own = {name for name, modules in places.items() if not all(map(is_published, modules))}
    return frozenset(own | {"gradient"} if "model" in own else own)


def _read_losses(losses: list[Tensor], first_step: int) -> float:
    values = torch.stack(losses).double()
    finite = values.isfinite()
    if not finite.all():
        step = first_step + int((~finite).nonzero()[0])
        raise Diverged(f"the loss is {values[step - first_step].item()} at step {step}")
    return float(values.mean())
