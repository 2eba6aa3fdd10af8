"""Overrides that were typed and that no run uses: said before training, since whoever typed them meant something.

What an experiment's file holds for choices that a command leaves out stays silent, and so does what one run of a sweep
uses.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from bench.config.overrides import GROUPS, is_override, typed_key
from bench.config.settings import Run, apply_settings
from bench.dataset import load_source, split_source
from bench.sweep.plan import Command
from bench.training.budget import warmup_steps

# A key, another one, and the value of the other at which the first does nothing.
_SWITCHED_OFF = (
    ("dataset.flips", "dataset.augment", "none"),
    ("dataset.noisy_validation", "dataset.label_noise", 0),
    ("regularizer.cutmix.alpha", "regularizer.cutmix.prob", 0),
    ("regularizer.mixup_cutmix.cutmix_alpha", "regularizer.mixup_cutmix.cutmix_prob", 0),
    ("regularizer.mixup_cutmix.mixup_alpha", "regularizer.mixup_cutmix.cutmix_prob", 1),
    ("regularizer.random_erasing.scale", "regularizer.random_erasing.probability", 0),
    ("regularizer.random_erasing.ratio", "regularizer.random_erasing.probability", 0),
    ("regularizer.asam.eta", "regularizer.asam.rho", 0),
    ("regularizer.look_sam.alpha", "regularizer.look_sam.rho", 0),
    ("regularizer.look_sam.alpha", "regularizer.look_sam.interval", 1),
    ("regularizer.swa.lr", "regularizer.swa.start", 1),
)


def find_unused(command: Command) -> Iterator[str]:
    """A line for each choice that is left out, and for each override that changes nothing in any of the command's runs,
    with the reason; loads their data."""
    yield from command.left_out
    typed = [argument for argument in command.arguments if is_override(argument) and argument[0] != "~"]
    last = {typed_key(override): override for override in typed}
    for override in typed:
        key = typed_key(override)
        if last[key] is not override and key != "exp":
            reason: str | None = f"{last[key]} comes after it"
        elif key.startswith(("hydra.run.", "hydra.sweep.")):
            reason = "results go to results_dir"
        else:
            reason = _shared_reason(key, command.runs)
        if reason:
            yield f"{override} has no effect: {reason}."


def _shared_reason(key: str, runs: Sequence[Run]) -> str | None:
    """Why a key does nothing in all runs; None where it does something in one."""
    reason = None
    for run in runs:
        reason = _reason(key, run)
        if reason is None:
            return None
    return reason


def _reason(key: str, run: Run) -> str | None:
    """Why a key does nothing in a run; None where it does something."""
    axis, _, name = key.partition(".")
    if axis not in GROUPS or not name:
        return None
    settings = _settings(run)
    used = [each for each in settings if f"{each}.".startswith(f"{key}.") or key.startswith(f"{each}.")]
    if not used:
        return f"no run chooses {axis} {name.partition('.')[0]}"
    for choice in run.regularizers:
        if choice.slot == "setting" and key in (choice.values["sets"], _of_optimizer(choice.values["sets"], run)):
            return f"regularizer {choice.name} sets it"
    for idle, other, value in _SWITCHED_OFF:
        if idle == key and settings.get(other) == value:
            return f"{other} is {value}"
    if key == "train.epochs" and run.train.gradient_evaluations is not None:
        return f"train.gradient_evaluations={run.train.gradient_evaluations} replaces it"
    return _reason_of_data(key, run)


def _reason_of_data(key: str, run: Run) -> str | None:
    """Why a key does nothing with a run's data, which are kept since they were first loaded."""
    axis, _, name = key.partition(".")
    source = load_source(run.dataset)
    if key == "train.warmup_epochs" and run.train.warmup_epochs > 0:
        per_epoch = len(split_source(apply_settings(run).dataset, source)[0]) // run.train.batch_size
        return None if warmup_steps(run.train, per_epoch) else f"that is no step of the {per_epoch} of an epoch"
    if axis != "dataset":
        return None
    if name == "val_fraction" and source.val_labels is not None:
        return "the data have a validation split"
    if name == "noisy_validation" and run.dataset.values["val_fraction"] == 0 and source.val_labels is None:
        return "there is no validation split"
    # A file counts by its content, and max_pixels is asked of each picture, though the identity has neither.
    depends = name in ("file", "max_pixels") or source.settings.get(name, "") is not None
    return source.unused.get(name, None if depends else "the data do not depend on it")


def _settings(run: Run) -> dict[str, Any]:
    """The values that a run has, by their keys on the command line."""
    parts = {"dataset": run.dataset.values, "model": run.model.values, "train": vars(run.train)}
    parts |= {f"regularizer.{choice.name}": choice.values for choice in run.regularizers}
    parts |= {f"optimizer.{run.optimizer.name}": run.optimizer.values}
    return {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}


def _of_optimizer(sets: str, run: Run) -> str:
    """A regularizer's `optimizer.weight_decay`, as it is typed: optimizer.sgd.weight_decay."""
    return sets.replace("optimizer.", f"optimizer.{run.optimizer.name}.")
