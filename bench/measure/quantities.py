"""How the columns of runs.csv that hold numbers are called in print, in which unit, and which end is better.

A metric is declared beside its function, in a module of this package: all else takes it from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, TypeVar

import numpy as np

from bench.measure.arrays import Floats

Better = Literal["higher", "lower", "nearer 0", ""]
Metric = Callable[[Any, Any], float]
Made = TypeVar("Made", bound=Callable[..., float])
_HUGE = 1e7  # as of the NLL of a run that all but diverged


@dataclass(frozen=True)
class Quantity:
    """A column that holds a number.

    Attributes:
        column: as in runs.csv.
        title: for tables and axes, with the unit.
        better: which end; empty where neither is, as of a generalization gap, which underfitting closes, too.
        factor: what a value is multiplied by for print; 100 makes percent of a fraction.
        digits: decimals where no interval says how many mean something.
        range: the least and the largest value that there can be, which no interval leaves.
    """

    column: str
    title: str
    better: Better
    factor: float = 1
    digits: int = 3
    range: tuple[float, float] = (-inf, inf)

    def clip(self, value: float) -> float:
        """A value, or the end of the range that it is beyond."""
        return float(min(max(value, self.range[0]), self.range[1]))

    def gain(self, arm: Floats, baseline: Floats) -> Floats:
        """By how much `arm` is better than `baseline`; NaN where neither end is."""
        if self.better == "nearer 0":
            return np.abs(baseline) - np.abs(arm)
        return {"higher": 1, "lower": -1}.get(self.better, np.nan) * (arm - baseline)


def percent(least: float = 0) -> dict[str, Any]:
    """How a fraction is printed."""
    return {"factor": 100, "digits": 2, "range": (least, 1)}


@dataclass(frozen=True)
class Declared:
    """A metric of a finished run: the one place that says what it is called and how it is made.

    Attributes:
        columns: of runs.csv, by split where it is of every split.
        quantities: of the same keys; none where the column holds no number.
        function: of logits (N, K) and labels (N,); None where score_run makes it of more than these.
        meaning: in a line, for readers.
        where: which runs have it; empty where all do. Tables without such a run have no such column.
    """

    columns: Mapping[str, str]
    quantities: Mapping[str, Quantity]
    function: Metric | None
    meaning: str
    where: str = ""


DECLARED: dict[str, Declared] = {}  # by the column of the test split, in the order of the columns


def of_every_split(test: str, val: str, train: str, title: str, better: Better, **more: Any) -> Callable[[Made], Made]:
    """Declares a function of (logits, labels) as a metric of each split, by its columns in runs.csv."""
    columns = {"test": test, "val": val, "train": train}
    quantities = {
        split: Quantity(column, title if split == "test" else f"{split} {title}", better, **more)
        for split, column in columns.items()
    }

    def declare(function: Made) -> Made:
        DECLARED[test] = Declared(columns, quantities, function, _first_sentence(function))
        return function

    return declare


def of_test(column: str, title: str, better: Better, **more: Any) -> Callable[[Made], Made]:
    """Declares a function of (logits, labels) as a metric of the test split, by its column in runs.csv."""

    def declare(function: Made) -> Made:
        made = {"test": Quantity(column, title, better, **more)}
        DECLARED[column] = Declared({"test": column}, made, function, _first_sentence(function))
        return function

    return declare


def of_run(column: str, meaning: str, title: str = "", better: Better = "", *, where: str = "", **more: Any) -> None:
    """Declares a column that is made of more than the test split's logits; without a title it holds no number.

    With `where`, as "dataset.imbalance below 1", it is of some runs alone: a record that lacks it is no older one.
    """
    made = {"test": Quantity(column, title, better, **more)} if title else {}
    DECLARED[column] = Declared({"test": column}, made, None, meaning, where)


def _first_sentence(function: Metric) -> str:
    return " ".join((function.__doc__ or "").split("\n\n")[0].split())


COSTS = {
    quantity.column: quantity
    for quantity in (
        Quantity("gradient_evaluations", "evals", "lower", digits=0, range=(0, inf)),
        Quantity("train_seconds", "seconds", "lower", digits=1, range=(0, inf)),
        Quantity("images_per_second", "images/s", "higher", digits=0, range=(0, inf)),
    )
}


def format_number(value: float, digits: int, sign: str = "") -> str:
    """A number for print, with so many decimals, or a huge one as 4.3e+19; with the sign "+" it always has one."""
    return f"{value:{sign}.{digits}f}" if abs(value) < _HUGE else f"{value:{sign}.1e}"
