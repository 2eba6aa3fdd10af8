"""Which values are allowed: rules, and the table for what no constructor of ours takes.

Models and regularizers, a user's own, too, state theirs where they take a value: `rho: Annotated[float, NOT_NEGATIVE]`.
Here is the rest: what a run and every choice on an axis have, data sets' values, of which Hydra must know which are
text before anything is imported, and those of torch's optimizers.

`python -m bench.config.reference` prints the list as docs/settings.md holds it.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from sys import float_info
from typing import Any

from bench.errors import UsageError


@dataclass(frozen=True)
class Range:
    """Numbers between `low` and `high`, a bound left out where it is `open`; or one word."""

    integer: bool = False
    low: float = -inf
    high: float = inf
    low_open: bool = False
    high_open: bool = False
    optional: bool = False
    word: str = ""

    def __contains__(self, value: Any) -> bool:
        if value is None:
            return self.optional
        if isinstance(value, str) and self.word:
            return value == self.word
        if isinstance(value, bool) or not isinstance(value, int if self.integer else (int, float)):
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and abs(value) <= float_info.max  # which is asked of integers of any length, too

    def __str__(self) -> str:
        kind = "an integer" if self.integer else "a number"
        if self.high < inf:
            bounds = f" in {'(' if self.low_open else '['}{self.low:g}, {self.high:g}{')' if self.high_open else ']'}"
        else:
            bounds = f" above {self.low:g}" if self.low_open else f" of at least {self.low:g}"
        return kind + bounds + (f", or {self.word}" if self.word else "") + (", or null" if self.optional else "")


@dataclass(frozen=True)
class OneOf:
    """One of a few values; `also` says in words what else `prefix` allows."""

    values: tuple[Any, ...]
    prefix: str = ""
    also: str = ""

    def __contains__(self, value: Any) -> bool:
        known = any(value is v if isinstance(v, bool) else value == v for v in self.values)
        numbered = isinstance(value, str) and self.prefix != "" and re.fullmatch(self.prefix + "[0-9]+", value)
        return known or bool(numbered)

    def __str__(self) -> str:
        return " or ".join(
            filter(
                None, ["one of " + ", ".join("null" if v is None else str(v).lower() for v in self.values), self.also]
            )
        )


@dataclass(frozen=True)
class Some:
    """A list of some of a few words."""

    words: tuple[str, ...]

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, list) and all(word in self.words for word in value) and len({*value}) == len(value)

    def __str__(self) -> str:
        return f"a list of some of these: [{','.join(self.words)}]"


@dataclass(frozen=True)
class Path:
    """The path of a folder, or of a file."""

    kind: str = "folder"
    optional: bool = False

    def __contains__(self, value: Any) -> bool:
        return self.optional if value is None else isinstance(value, str) and value != "" and value[0] != "~"

    def __str__(self) -> str:
        return f"the path of a {self.kind} (~ is not expanded)" + (", or null" if self.optional else "")


@dataclass(frozen=True)
class Word:
    """Part of a name in tables."""

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, str) and re.fullmatch(r"[\w.-]+", value) is not None

    def __str__(self) -> str:
        return "of letters, digits, _, - and ."


@dataclass(frozen=True)
class Colour:
    """A colour that hides what is under it."""

    def __contains__(self, value: Any) -> bool:
        from PIL import ImageColor  # here because commands that only read need no Pillow

        with suppress(ValueError):
            return isinstance(value, str) and len(ImageColor.getrgb(value)) == 3
        return False

    def __str__(self) -> str:
        return "the name of a colour, or '#rrggbb' in quotes"


TAKEN = ("runs", "datasets")  # folders of the results that hold no experiment


@dataclass(frozen=True)
class Name:
    """The name of a folder in the results, that a command line can name, too."""

    def __contains__(self, value: Any) -> bool:
        named = isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value) is not None
        return named and value.lower() not in TAKEN

    def __str__(self) -> str:
        return "of letters, digits, _, - and ., the first a letter, a digit or _; not " + " or ".join(TAKEN)


@dataclass(frozen=True)
class Mapping:
    """Names and values."""

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, dict)

    def __str__(self) -> str:
        return "a mapping {name:value,...}"


@dataclass(frozen=True)
class Pair:
    """Two values of one range."""

    each: Range

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, list) and len(value) == 2 and all(v in self.each for v in value)

    def __str__(self) -> str:
        return f"two of: {self.each}"


COUNT = Range(integer=True, low=1)
SWITCH = OneOf((True, False))
SHARE = Range(low=0, high=1)
FRACTION = Range(low=0, high=1, high_open=True)
NOT_NEGATIVE = Range(low=0)
POSITIVE = Range(low=0, low_open=True)

Rule = Range | OneOf | Some | Path | Word | Colour | Name | Mapping | Pair

# Those of training/schedule.py, and which begin below 1: after a warm-up the rate would fall, and rise once more.
SCHEDULES, RISING = ("cosine", "one_cycle", "step", "constant"), ("one_cycle",)

RANGES: dict[str, Rule] = {
    "seed": Range(integer=True, low=0),
    "results_dir": Path(),
    "force": SWITCH,
    "keep_weights": SWITCH,
    "retry_failed": SWITCH,
    "fail_fast": SWITCH,
    "evaluation": Some(("sharpness", "robustness")),  # bench/probe/
    "dataset.root": Path(),
    "dataset.file": Path("file", optional=True),
    "dataset.train_size": Range(integer=True, low=1, optional=True),
    "dataset.val_fraction": FRACTION,
    "dataset.drop_duplicates": SWITCH,
    "dataset.split_seed": Range(integer=True, low=0, word="seed", optional=True),
    "dataset.imbalance": Range(low=0, high=1, low_open=True),
    "dataset.label_noise": FRACTION,
    "dataset.noisy_validation": SWITCH,
    "dataset.augment": OneOf(("none", "standard", "alternating", "trivial_augment", "random_resized")),
    "dataset.resident": OneOf((True, False, None)),
    "dataset.name": Word(),
    "dataset.arch": Word(),
    "dataset.image_column": Word(),
    "dataset.label_column": Word(),
    "dataset.test_fraction": Range(low=0, high=1, low_open=True, high_open=True),
    "dataset.image_size": Range(integer=True, low=8, optional=True),
    "dataset.channels": COUNT,
    "dataset.flips": SWITCH,
    "dataset.background": Colour(),
    "dataset.white": Range(low=0, low_open=True, optional=True),
    "dataset.max_pixels": Range(integer=True, low=1, optional=True),
    "dataset.classes": Range(integer=True, low=2),
    "dataset.train_images": COUNT,
    "dataset.test_images": COUNT,
    "dataset.noise": NOT_NEGATIVE,
    "model.weights": Path("file", optional=True),
    "model.dropout": FRACTION,
    "model.stochastic_depth": FRACTION,
    "model.arch": Word(),
    "model.args": Mapping(),
    "optimizer.lr": POSITIVE,
    "optimizer.momentum": FRACTION,
    "optimizer.nesterov": SWITCH,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.betas": Pair(FRACTION),
    "optimizer.eps": POSITIVE,
    "train.epochs": COUNT,
    "train.gradient_evaluations": Range(integer=True, low=1, optional=True),
    "train.batch_size": COUNT,
    "train.device": OneOf(("auto", "cpu", "cuda"), prefix="cuda:", also="cuda:N"),
    "train.precision": OneOf(("auto", "fp32", "bf16", "fp16")),
    "train.compile": SWITCH,
    "train.schedule": OneOf(SCHEDULES),
    "train.warmup_epochs": NOT_NEGATIVE,
    "train.clip_norm": Range(low=0, low_open=True, optional=True),
    "train.deterministic": SWITCH,
    "train.checkpoint_minutes": Range(low=0, optional=True),
    "train.tracker": OneOf(("none", "tensorboard", "mlflow")),
}


def _rule(key: str) -> Rule | None:
    return RANGES.get(key) or _OF_COMMAND.get(key)


def check(key: str, rule: str, value: Any) -> None:
    """Checks `value` of the config key `key` against the table's row `rule`, if it has one.

    Raises:
        UsageError: the value is not allowed.
    """
    allowed = _rule(rule)
    if allowed is not None:
        check_value(key, allowed, value)


def check_value(key: str, allowed: Rule, value: Any) -> None:
    """Checks `value` of the config key `key`.

    Raises:
        UsageError: the value is not allowed.
    """
    if value not in allowed:
        shown = "null" if value is None else value
        raise UsageError(f"{key}={shown} is not allowed.\nIt must be {allowed}.")


def as_rule(note: Any, kind: Any) -> Rule | None:
    """The rule that an annotation's note is or, as annotated-types' Ge, Gt, Le, Lt and Interval, stands for."""
    if isinstance(note, Rule):
        return note
    ge, gt, le, lt = (getattr(note, bound, None) for bound in ("ge", "gt", "le", "lt"))
    low, high = (next((v for v in pair if v is not None), None) for pair in ((ge, gt), (le, lt)))
    if low is None and high is None:
        return None
    return Range(
        integer=kind is int,
        low=-inf if low is None else low,
        high=inf if high is None else high,
        low_open=gt is not None,
        high_open=lt is not None,
    )


# What a command has beside its runs' settings.
_OF_COMMAND: dict[str, Rule] = {"exp": Name(), "hydra.launcher.submitit_folder": Path()}

# Of Slurm's jobs; the account 2024_01 is no number.
_LAUNCHER_WORDS = {f"hydra.launcher.{key}" for key in ("partition", "account", "qos", "name", "constraint", "comment")}


def is_text(key: str) -> bool:
    """Whether the values of a config key are text as they are typed, whatever they look like."""
    return isinstance(_rule(key), Path | Word | Colour) or key in _LAUNCHER_WORDS
