"""What stands in a cell of a printed table: a mean with as many digits as its interval supports, and a mark.

The rule is that of the Particle Data Group: of half the interval two figures where the first three are below 355, else
one. A mark says that an arm differs from its baseline by more than chance, and in which direction: filled, where it is
beyond the noise of seeds and of test images; hollow, where it is beyond that of seeds alone.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.evidence.comparison import Comparison
from bench.evidence.stats import FEWEST_SEEDS, LEVEL_OF_TESTS, median_interval
from bench.measure import QUALITIES
from bench.measure.quantities import Quantity, format_number
from bench.status import Status

BETTER, WORSE, OTHER = "▲", "▼", "≠"
HOLLOW = {BETTER: "△", WORSE: "▽", OTHER: OTHER, "": ""}
_SPREAD = 1.25  # between the largest ratio of seconds and the least: with more there is a note
_EQUAL_MACHINES = ("workers", "threads", "hardware")

Row = Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """A mean, half of its interval, and how it stands to the baseline; the texts are empty where it is not known."""

    mean: str = ""
    half: str = ""
    mark: str = ""
    value: float = math.nan  # to sort by
    above: str = ""  # of an interval that is cut at an end of the metric's range: how far it goes up; `half` is down

    def __str__(self) -> str:
        half = f"+{self.above}−{self.half}" if self.above else f"{'±' * bool(self.half)}{self.half}"
        return f"{self.mean}{half}{self.mark}"


def print_with_half(quantity: Quantity, mean: float, half: float | None) -> tuple[str, str]:
    """A mean and half of its interval, with the decimals that the latter supports."""
    mean, digits = mean * quantity.factor, quantity.digits
    if half is None:
        return format_number(mean, digits), ""
    half *= quantity.factor
    if 0 < half < math.inf:
        leading, exponent = f"{half:.2e}".split("e")
        figures = 1 if 3.55 <= float(leading) < 9.5 else 2
        digits = max(0, min(figures - 1 - int(exponent) - (float(leading) >= 9.5), digits + 3))
    return format_number(mean, digits), format_number(half, digits)


def describe_p(p: float | None) -> str:
    """A p value to two figures."""
    if p is None:
        return ""
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def make_cell(arm: Mapping[str, Any], quantity: Quantity, mark: str = "") -> Cell:
    """An arm's mean of a quantity; its interval, where there are seeds enough for one, does not leave the range.

    Args:
        arm: its row of `summarise`.
        quantity: which.
        mark: of the cell.
    """
    mean, low, high = (arm.get(f"{quantity.column}_{part}") for part in ("mean", "low", "high"))
    if mean is None:
        return Cell()
    if quantity.column == "gradient_evaluations":
        return Cell(f"{mean:,.0f}", value=mean)
    if low is None or high is None or arm["runs"] < FEWEST_SEEDS:
        return Cell(print_with_half(quantity, mean, None)[0], "", mark, mean)
    down, up = mean - low, high - mean
    text, half = print_with_half(quantity, mean, max(down, up))
    if math.isclose(down, up, rel_tol=1e-6) or not math.isfinite(up):
        return Cell(text, half, mark, mean)
    digits = len(text.partition(".")[2])
    down_text, up_text = (format_number(quantity.factor * each, digits) for each in (down, up))
    return Cell(text, down_text, mark, mean, up_text)


def make_mark(compared: Comparison, *, beyond_images: bool = True) -> str:
    """Whether a difference is beyond chance, and in which direction.

    Args:
        compared: whose difference.
        beyond_images: whether the difference is also beyond the noise of test images.
    """
    if compared.p_holm is None or compared.difference is None or compared.p_holm >= LEVEL_OF_TESTS:
        return ""
    better = {"higher": 1, "lower": -1}.get(QUALITIES[compared.metric].better)
    if better is None:  # the test is of the signed difference, which does not say what is nearer 0
        return OTHER
    mark = BETTER if better * compared.difference > 0 else WORSE
    return mark if beyond_images else HOLLOW[mark]


def find_supported(test_set: Sequence[Row]) -> set[tuple[str, str, str]]:
    """Arm, baseline and metric of each row of test_set.csv whose interval over test images excludes 0."""
    return {
        (row["arm_id"], row["baseline"], row["metric"])
        for row in test_set
        if float(row["low"] or "nan") > 0 or float(row["high"] or "nan") < 0
    }


@dataclass(frozen=True)
class Cost:
    """Seconds of training as a multiple of the baseline's: the ratios of the seeds, and how many runs were resumed."""

    ratios: Sequence[float] = ()
    resumed: int = 0

    @property
    def varies(self) -> bool:
        """Whether the ratios are too unlike for their median to be a method's cost."""
        return len(self.ratios) > 1 and max(self.ratios) > _SPREAD * min(self.ratios)

    @property
    def cell(self) -> Cell:
        """The median with two figures, and how far its interval goes to the farther side."""
        if not self.ratios:
            return Cell()
        middle = median(self.ratios)
        digits = max(0, 1 - int(f"{middle:.1e}".split("e")[1])) if middle > 0 else 1
        if len(self.ratios) < FEWEST_SEEDS or max(self.ratios) == min(self.ratios):
            return Cell(_shorten(middle, digits), value=middle)
        low, high, _ = median_interval(self.ratios)
        return Cell(_shorten(middle, digits), _shorten(max(middle - low, high - middle), digits), value=middle)


def _shorten(number: float, digits: int) -> str:
    """A number without the 0 before its point: lines are long enough."""
    return re.sub(r"^0(?=\.)", "", f"{number:.{digits}f}")


def relative_cost(runs: Sequence[Row], baseline: Sequence[Row]) -> Cost:
    """The cost, over the seeds that were trained on equal machines."""
    done = {row["seed"]: row for row in baseline if row["status"] == Status.DONE}
    pairs = [(row, done[row["seed"]]) for row in runs if row["status"] == Status.DONE and row["seed"] in done]
    pairs = [(a, b) for a, b in pairs if all(a[key] and a[key] == b[key] for key in _EQUAL_MACHINES)]
    pairs = [(a, b) for a, b in pairs if float(b["train_seconds"]) > 0]
    resumed = sum(bool(a.get("resumed") or b.get("resumed")) for a, b in pairs)
    return Cost([float(a["train_seconds"]) / float(b["train_seconds"]) for a, b in pairs], resumed)
