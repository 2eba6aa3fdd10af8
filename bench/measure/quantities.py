"""What the columns of runs.csv measure: how they are called in print, in which unit, and which end is better."""

from dataclasses import dataclass, replace
from math import inf
from typing import Literal

import numpy as np

from bench.measure.metric import Floats

Better = Literal["higher", "lower", "nearer 0", ""]
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


def _percent(column: str, title: str, better: Better, least: float = 0) -> Quantity:
    return Quantity(column, f"{title} %", better, factor=100, digits=2, range=(least, 1))


_OF_A_SPLIT = [
    _percent("accuracy", "accuracy", "higher"),
    Quantity("nll", "NLL", "lower", range=(0, inf)),
    _percent("ece", "ECE", "lower"),
    Quantity("brier", "Brier", "lower", range=(0, 2)),
]
_OF_TEST = [
    _percent("test_top5_accuracy", "top-5", "higher"),
    _percent("test_worst_class_accuracy", "worst class", "higher"),
    _percent("test_balanced_accuracy", "balanced accuracy", "higher"),
    _percent("test_macro_f1", "macro F1", "higher"),
    _percent("test_ece_debiased", "ECE debiased", "nearer 0", least=-1),
    _percent("test_ece_equal_mass", "ECE equal-mass", "lower"),
    _percent("test_ece_classwise", "ECE classwise", "lower"),
    _percent("test_mce", "MCE", "lower"),
    _percent("test_confidence_gap", "confidence gap", "nearer 0", least=-1),
    Quantity("test_entropy", "entropy", "", range=(0, inf)),
    _percent("test_aurc", "AURC", "lower"),
    _percent("accuracy_gap", "accuracy gap", "", least=-1),
    Quantity("nll_gap", "NLL gap", ""),
    Quantity("temperature", "T", "", digits=2, range=(0, inf)),
    Quantity("test_nll_scaled", "NLL scaled", "lower", range=(0, inf)),
    _percent("test_ece_scaled", "ECE scaled", "lower"),
]


def _of_split(split: str, quantity: Quantity) -> Quantity:
    title = quantity.title if split == "test" else f"{split} {quantity.title}"
    return replace(quantity, column=f"{split}_{quantity.column}", title=title)


# What arms are compared by.
QUALITIES = {
    quantity.column: quantity
    for quantity in (*(_of_split(s, q) for s in ("test", "val", "train") for q in _OF_A_SPLIT), *_OF_TEST)
}
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
