"""A run's settings as plain typed values: what Hydra composed, checked, with nothing of Hydra left in them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import Any

from bench.config import CONF
from bench.config.ranges import RISING, check
from bench.errors import Unfit, UsageError

# Also the order of a stack's parts in its name.
SLOTS = ("none", "erase", "mixing", "loss", "gradient", "average", "setting")
# Keys of every dataset that say what is made of it, and are not its loader's.
PROTOCOL = (
    *("train_size", "val_fraction", "drop_duplicates", "split_seed", "imbalance", "label_noise", "noisy_validation"),
    *("augment", "resident"),
)
_READ_HERE = (*PROTOCOL, "root", "weights", "dropout", "stochastic_depth", "lr", "weight_decay")
DESCRIBES = ("_target_", "slot", "sets", "word")  # keys that say what a choice is, not how to construct it


@dataclass(frozen=True)
class Choice:
    """One choice on an axis: its word in tables, and the values of its file as overridden."""

    name: str
    values: Mapping[str, Any]

    @property
    def slot(self) -> str:
        """The step's slot that it fills; empty for datasets and models."""
        return str(self.values.get("slot", ""))


@dataclass(frozen=True)
class Train:
    """The `train` group; conf/train/default.yaml says what each key means and holds its default."""

    epochs: int
    gradient_evaluations: int | None
    batch_size: int
    device: str
    precision: str
    compile: bool
    schedule: str
    warmup_epochs: float
    clip_norm: float | None
    deterministic: bool
    checkpoint_minutes: float | None
    tracker: str


@dataclass(frozen=True)
class Run:
    """One configuration and one seed."""

    dataset: Choice
    model: Choice
    regularizers: tuple[Choice, ...]
    optimizer: Choice
    train: Train
    seed: int
    fingerprint: str = ""  # of the data, once they are found
    # Of the weights' file and the user's modules, hashed; and settings that count with some data only, None if unused.
    contents: Mapping[str, Any] = field(default_factory=dict)

    @property
    def regularizer(self) -> str:
        """The stack's name: its parts in the fixed order, joined by +."""
        return "+".join(choice.name for choice in self.regularizers)

    @property
    def words(self) -> dict[str, str]:
        """The run's word on each axis, as in the tables."""
        return {
            "dataset": self.dataset.name,
            "model": self.model.name,
            "regularizer": self.regularizer,
            "optimizer": self.optimizer.name,
        }


def read_run(config: Mapping[str, Any], names: Mapping[str, str]) -> Run:
    """A checked run of a composed, resolved config; `names` holds the choices of dataset and model.

    Raises:
        UsageError: a value out of its range, or a stack that does not fit together.
    """
    for axis in ("dataset", "model"):
        _check_values(axis, names[axis], axis, config[axis])
    for axis in ("regularizer", "optimizer"):
        for name, values in config[axis].items():
            _check_values(axis, name, f"{axis}.{name}", values)
    _check_values("train", "default", "train", config["train"])
    check("seed", "seed", config["seed"])
    run = Run(
        dataset=Choice(_word(names["dataset"], config["dataset"]), config["dataset"]),
        model=Choice(_word(names["model"], config["model"]), config["model"]),
        regularizers=_read_stack(_chosen(config["regularizer"])),
        optimizer=_read_optimizer(_chosen(config["optimizer"])),
        train=Train(**{field.name: config["train"][field.name] for field in fields(Train)}),
        seed=config["seed"],
    )
    if run.train.warmup_epochs >= run.train.epochs and run.train.gradient_evaluations is None:
        raise UsageError(
            f"train.warmup_epochs={run.train.warmup_epochs} leaves nothing of train.epochs={run.train.epochs}.\n"
            "The warm-up must be shorter than the training: lower it, or train for more epochs."
        )
    if run.train.warmup_epochs > 0 and run.train.schedule in RISING:
        raise UsageError(
            f"train.schedule={run.train.schedule} begins with a warm-up of its own, and train.warmup_epochs="
            f"{run.train.warmup_epochs} would be a second one.\n"
            "Set train.warmup_epochs=0, or choose another train.schedule."
        )
    apply_settings(run)
    return run


def apply_settings(run: Run) -> Run:
    """The run with what its `slot: setting` regularizers set, put where it belongs, and its split's seed as a number.

    Raises:
        UsageError: the chosen model or optimizer has no such value, or it is already set.
    """
    for choice in run.regularizers:
        if choice.slot != "setting":
            continue
        axis, key = choice.values["sets"].split(".")
        target: Choice = getattr(run, axis)
        if key not in target.values:
            files = sorted((CONF / axis).glob("*.yaml"))
            has = [file.stem for file in files if re.search(rf"^{key}:", file.read_text("utf-8"), re.MULTILINE)]
            raise Unfit(
                f"regularizer {choice.name} sets {axis}.{key}, which {axis} {target.name} does not have.\n"
                f"These have it: {', '.join(has) or 'none of ours'}."
            )
        if target.values[key]:
            raise UsageError(
                f"regularizer {choice.name} sets {key}, but {axis} {target.name} has {key}={target.values[key]}.\n"
                f"Set it in one place: leave the regularizer out, or set the {axis}'s {key} to 0."
            )
        changed: Any = {axis: replace(target, values={**target.values, key: choice.values["value"]})}
        run = replace(run, **changed)
    if run.dataset.values.get("split_seed") == "seed":
        run = replace(run, dataset=replace(run.dataset, values={**run.dataset.values, "split_seed": run.seed}))
    return run


def reads(axis: str, name: str, key: str) -> bool:
    """Whether our own code reads a key of the choice `name`, and not only a user's class."""
    return key in _READ_HERE or (CONF / axis / f"{name}.yaml").is_file()


def _check_values(axis: str, name: str, path: str, values: Mapping[str, Any]) -> None:
    """Checks what the table of ranges knows; of a user's own choices it knows what our own code reads."""
    for key, value in values.items():
        if reads(axis, name, key):
            rule = values["sets"] if key == "value" and "sets" in values else f"{axis}.{key}"
            check(f"{path}.{key}", rule if axis in ("optimizer", "regularizer") else f"{path}.{key}", value)


def _word(name: str, values: Mapping[str, Any]) -> str:
    """What the tables call a choice: where the choice alone does not say what it is, one of its values does."""
    return f"{name}/{values[values['word']]}" if "word" in values else name


def _chosen(nodes: Mapping[str, Mapping[str, Any]]) -> list[Choice]:
    """The nodes of an axis that were chosen: an experiment may also hold values for others, which have no slot."""
    return [Choice(name, values) for name, values in nodes.items() if "slot" in values]


def _read_stack(choices: list[Choice]) -> tuple[Choice, ...]:
    stack = sorted(choices, key=lambda choice: (SLOTS.index(choice.slot), choice.name))
    if not stack:
        raise AssertionError("an empty stack is composed as none")
    names = [choice.name for choice in stack]
    if len(stack) > 1 and stack[0].slot == "none":
        raise UsageError(
            f"regularizer=[{','.join(names)}]: none does not stack.\nLeave none out of the stack, or choose it alone."
        )
    for first, second in pairwise(stack):
        if first.slot == second.slot != "setting":
            raise UsageError(
                f"regularizers {first.name} and {second.name} both fill the slot {first.slot}: they cannot stack.\n"
                f"A stack takes at most one regularizer for each of the slots {', '.join(SLOTS[1:-1])}."
            )
    return tuple(stack)


def _read_optimizer(choices: list[Choice]) -> Choice:
    if len(choices) != 1:
        names = ", ".join(choice.name for choice in choices) or "none"
        raise UsageError(
            f"a run has one optimizer, got {names}.\nTo compare several, separate them by commas: optimizer=sgd,adam"
        )
    return choices[0]
