"""Whether a run's parts work with its data and with each other: tried on a batch and a step, before anything trains."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import Parameter, signature
from math import inf
from numbers import Real
from typing import NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.config.plugins import user_folder
from bench.config.settings import Choice, Run
from bench.console.escape import escape
from bench.dataset import Source, find_gaps, split_source
from bench.dataset.augment import check_augment
from bench.dataset.residency import check_memory
from bench.errors import UsageError
from bench.model import build_model
from bench.model.buffers import has_statistics
from bench.optimizer import make_optimizer
from bench.regularizer import Average, SetsLearningRate, Slots, make_slots
from bench.rng import global_stream, stream
from bench.training.budget import count_evaluations, evaluations_at_end, total_steps, warmup_steps
from bench.training.trainer import PlansSteps

_CPU = torch.device("cpu")


class TriedModel(NamedTuple):
    """What a model that works has: its parameters, without memory, and whether it has BatchNorm's statistics."""

    parameters: list[nn.Parameter]
    has_statistics: bool


# By what was tried: None, where it is no model.
Tried = dict[str, TriedModel | None]


@contextmanager
def as_usage_error(what: str) -> Iterator[None]:
    """Tells whatever goes wrong in the making of `what` as bad input: the class may be the user's own."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{what}: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    """The error's first line, with its kind unless it states a rule, and where in the user's own files it came up."""
    message = (str(error) or repr(error)).splitlines()[0][:300]
    folder, frames = user_folder(), traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if folder and frame.filename.startswith(str(folder))]
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{kind}{message}" + (f"\n({own[-1].filename}, line {own[-1].lineno})" if own else "")


def check_fit(run: Run, source: Source, tried: Tried) -> int:
    """The run's gradient evaluations; builds model and optimizer, but trains nothing.

    Args:
        run: with its settings applied.
        source: its data.
        tried: the data, the models on which data, and the optimizers of them, which take a while: added to.

    Raises:
        UsageError: model, optimizer or budget cannot work with the data.
    """
    per_epoch = _count_batches(run, source)
    if (data := str((run.dataset, run.fingerprint))) not in tried:
        check_augment(run.dataset.values["augment"], source.train_images)
        for line in find_gaps(run.dataset, source):
            Console(stderr=True, highlight=False).print(escape(line), markup=False, soft_wrap=True)
        tried[data] = None
    with as_usage_error(f"regularizer {run.regularizer}"), global_stream(_CPU, run.seed, "slots"):
        slots = make_slots(run.regularizers)
        _try_slots(slots, source)
    model = str((run.model, run.train.batch_size, run.dataset.name, run.fingerprint))
    if model not in tried:
        with as_usage_error(f"model {run.model.name} on batches of {run.train.batch_size} of these images"):
            tried[model] = _try_model(run, source)
    found = tried[model]
    assert found is not None
    per_step = slots.gradient.evaluations_per_step
    at_end = evaluations_at_end(slots.average, found.has_statistics, per_epoch)
    steps = total_steps(run.train, per_epoch, per_step, at_end)
    _check_budget(run, steps, per_epoch)
    with as_usage_error(f"regularizer {run.regularizer}"), global_stream(_CPU, run.seed, "average"):
        _try_average(slots.average, steps, per_epoch)
    optimizer = str((model, run.optimizer))
    if optimizer not in tried:
        with as_usage_error(f"optimizer {run.optimizer.name}"), global_stream(_CPU, run.seed, "slots"):
            _try_optimizer(run.optimizer, found.parameters)
        tried[optimizer] = None
    return count_evaluations(steps, per_step) + at_end


def _count_batches(run: Run, source: Source) -> int:
    """In an epoch; at least one."""
    train, val = split_source(run.dataset, source)
    held_out = len(val) if source.val_images is None else len(source.val_images)
    check_memory(run.dataset, (len(train) + held_out + len(source.test_images), *source.train_images.shape[1:]))
    if len(train) == 0:
        raise UsageError("validation leaves no image to train on.\nLower dataset.val_fraction.")
    if run.train.batch_size > len(train):
        raise UsageError(
            f"train.batch_size={run.train.batch_size} is more than the {len(train)} images to train on.\n"
            f"Set train.batch_size to at most {len(train)}, or raise dataset.train_size."
        )
    return len(train) // run.train.batch_size


def _check_budget(run: Run, steps: int, per_epoch: int) -> None:
    warmup = warmup_steps(run.train, per_epoch)
    if steps == 0:
        raise UsageError(
            f"train.gradient_evaluations={run.train.gradient_evaluations} pays for no step: what "
            f"{run.regularizer} takes for a step, and after the last one, costs more.\nRaise it."
        )
    if steps <= warmup:
        raise UsageError(
            f"the run would have {steps} steps, and the warm-up takes {warmup} of them.\n"
            "Raise train.gradient_evaluations (or train.epochs), or lower train.warmup_epochs."
        )


def _try_slots(slots: Slots, source: Source) -> None:
    """Has a step's parts work on two images; raises where they do not give what the step expects of them."""
    _, height, width, channels = source.train_images.shape
    images, targets = torch.zeros(2, channels, height, width), torch.eye(source.classes)[:2]
    erased = slots.erase(images, stream(0, "erase"))
    if _kind(erased) != _kind(images):
        raise ValueError(f"erase gives {_kind(erased)} of {_kind(images)}")
    mixed = slots.mixing(erased, targets, stream(0, "mixing"))
    if not isinstance(mixed, tuple | list) or [*map(_kind, mixed)] != [*map(_kind, (images, targets))]:
        given = [*map(_kind, mixed)] if isinstance(mixed, tuple | list) else _kind(mixed)
        raise ValueError(f"mixing gives {given} of {[*map(_kind, (images, targets))]}")
    _, mixed_targets = mixed
    model = nn.Linear(1, source.classes)

    def compute_loss() -> Tensor:
        loss = slots.loss(model(torch.ones(2, 1)), mixed_targets, **slots.random("loss", 0, 0))
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            raise ValueError(f"loss gives {_kind(loss)}; it must be a scalar tensor")
        return loss

    loss = slots.gradient(model, compute_loss, step=0, **slots.random("gradient", 0, 0))
    if loss.ndim != 0 or loss.requires_grad:
        raise ValueError(f"gradient gives a loss of shape {tuple(loss.shape)}; it must be a detached scalar")
    if model.weight.grad is None:
        raise ValueError("gradient leaves no .grad behind")


def _try_average(average: Average, steps: int, per_epoch: int) -> None:
    """Asks an average for its share, and its learning rate, at some steps of the run: the first, ends, the middle."""
    own = average if isinstance(average, SetsLearningRate) else None
    if own and not callable(own.learning_rate):
        raise ValueError(f"average has learning_rate={own.learning_rate!r:.100}; it must be a method")
    for step in sorted({*range(min(4, steps)), min(per_epoch, steps) - 1, steps // 2, steps - 1}):
        share = average(step, steps, per_epoch)
        if not isinstance(share, Real) or not 0 <= share <= 1:
            raise ValueError(f"average gives {share!r:.100} at step {step}; it must be a number in [0, 1]")
        rate = own.learning_rate(step, steps) if own else None
        if rate is not None and not (isinstance(rate, Real) and 0 < rate < inf):
            raise ValueError(f"learning_rate gives {rate!r:.100} at step {step}; it must be None or a number above 0")


def _kind(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _try_model(run: Run, source: Source) -> TriedModel:
    """Builds the model and shows it a batch: of shapes without memory, or where it cannot be built so, a real one."""
    _, height, width, channels = source.train_images.shape
    for device, most in (("meta", run.train.batch_size), ("cpu", 2)):
        n = min(run.train.batch_size, most)
        try:
            with torch.device(device), global_stream(_CPU, run.seed, "init"):
                model = build_model(run.model, torch.Size((n, channels, height, width)), source.classes)
                images = torch.zeros(n, channels, height, width)
                logits = model.train()(images)
                with torch.no_grad():
                    evaluated = model.eval()(images)
        except Exception:
            if device == "cpu":
                raise
        else:
            break
    for mode, output in (("", logits), (" in evaluation", evaluated)):
        shape = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        if shape != (n, source.classes):
            raise ValueError(f"gives {shape}{mode} instead of logits of shape {(n, source.classes)}")
    if not logits.requires_grad:
        raise ValueError("has nothing to train: its logits depend on no parameter that requires a gradient")
    parameters = [nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()]
    return TriedModel(parameters, has_statistics(model))


def _try_optimizer(choice: Choice, parameters: list[nn.Parameter]) -> None:
    """Has the optimizer take a step: on weights without memory, or where it cannot work on such, on real ones."""
    for device in ("meta", "cpu"):
        weights = [nn.Parameter(torch.zeros_like(p, device=device), p.requires_grad) for p in parameters]
        try:
            optimizer = make_optimizer(choice, iter(weights))
            _check_optimizer(optimizer)
            if isinstance(optimizer, PlansSteps):
                optimizer.plan(2)
            for weight in weights:
                weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
            optimizer.step()
        except Exception:
            if device == "cpu":
                raise
        else:
            break


def _check_optimizer(optimizer: Optimizer) -> None:
    closure = signature(optimizer.step).parameters.get("closure")
    if closure and closure.default is Parameter.empty:
        raise UsageError(
            f"{type(optimizer).__name__} computes the loss several times a step, by a closure, and regbench's step "
            "computes a gradient once.\nTake an optimizer whose step() needs no closure."
        )
    if not all("lr" in group for group in optimizer.param_groups):
        raise ValueError("has groups of parameters without lr, which train.schedule is to set")
