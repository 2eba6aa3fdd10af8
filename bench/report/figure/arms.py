"""The arms of one dataset and model as figures need them: their runs, estimates over seeds, and labels.

Numbers come from the rows of runs.csv, so that each seed can be shown beside the mean. Only finished runs count, and
an empty cell is no number.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, quantiles

from bench.config.identity import shorten
from bench.console.escape import escape
from bench.console.wrap import wrap
from bench.evidence.stats import FEWEST_SEEDS, t_interval
from bench.measure import QUALITIES
from bench.measure.quantities import COSTS
from bench.record.tables import Row
from bench.status import Status


@dataclass(frozen=True)
class Metric:
    """How a column is shown: its name, the factor to its unit, its digits, and which end is better."""

    column: str
    noun: str
    unit: str
    difference_unit: str
    factor: float
    digits: int
    higher_is_better: bool

    @property
    def axis(self) -> str:
        """What stands beside an axis."""
        return f"{self.noun} ({self.unit})"


ACCURACY = Metric("test_accuracy", "test accuracy", "%", "percentage points", 100, 2, True)
NLL = Metric("test_nll", "test NLL", "nats", "nats", 1, 3, False)
ECE = Metric("test_ece", "test ECE", "%", "percentage points", 100, 2, False)
METRICS = (ACCURACY, NLL, ECE)


@dataclass(frozen=True)
class Estimate:
    """A mean, its 95 % interval if there is one, and the values of the seeds that it is the mean of."""

    mean: float
    interval: tuple[float, float] | None
    values: Sequence[float] = ()

    @property
    def ends(self) -> tuple[float, float]:
        """The interval, or twice the mean where there is none."""
        return self.interval or (self.mean, self.mean)


@dataclass(frozen=True)
class Arm:
    """A run less its seed, with the rows of runs.csv of all its seeds."""

    arm_id: str
    regularizer: str
    optimizer: str
    settings: str
    runs: Sequence[Row] = field(repr=False)

    @property
    def done(self) -> list[Row]:
        """The runs that are finished."""
        return [run for run in self.runs if run["status"] == Status.DONE]

    def estimate(self, column: str, factor: float = 1) -> Estimate | None:
        """Mean and 95 % t interval of a column over the seeds; None where no finished run has the number."""
        values = [value for run in self.done if (value := number(run, column)) is not None]
        return estimate(values, factor, (QUALITIES | COSTS)[column].clip)

    def broken(self) -> str:
        """How many runs failed or diverged, in words; empty where none did."""
        count = Counter(run["status"] for run in self.runs)
        return ", ".join(f"{count[status]} {status}" for status in (Status.FAILED, Status.DIVERGED) if count[status])

    @property
    def short_settings(self) -> str:
        """The settings that tell it apart, on a line."""
        return " ".join(shorten(escape(self.settings).split(), self.regularizer))

    def label(self, width: int = 38) -> str:
        """Its words, the settings that tell it apart and what went wrong, in lines of at most `width` characters."""
        parts = [f"{self.regularizer} · {self.optimizer}", self.short_settings]
        broken = self.broken()
        lines = [", ".join(part for part in parts if part)]
        if len(lines[0]) > width:
            lines = [line for part in parts for line in wrap(part, width)]
        if broken and len(lines[-1]) + len(broken) + 3 <= width:
            lines[-1] += f" ({broken})"
        elif broken:
            lines += wrap(f"({broken})", width)
        return "\n".join(lines)


def number(row: Row, column: str) -> float | None:
    """A cell's number; None where it is empty, missing or not finite."""
    cell = row.get(column)
    value = float(cell) if cell else math.nan
    return value if math.isfinite(value) else None


def estimate(
    values: Sequence[float], factor: float = 1, clip: Callable[[float], float] = lambda value: value
) -> Estimate | None:
    """The mean of the values, times a factor, and its 95 % t interval, cut to what is possible; None of no values.

    There is no interval of fewer than three: that of two is 9 standard deviations wide on either side.
    """
    if not values:
        return None
    ends = t_interval(values) if len(values) >= FEWEST_SEEDS else None
    interval = (factor * clip(ends[0]), factor * clip(ends[1])) if ends else None
    return Estimate(factor * fmean(values), interval, [factor * value for value in values])


def is_far(estimate: Estimate, estimates: Sequence[Estimate]) -> bool:
    """Whether an estimate is so far from most others that a scale for all would show only that."""
    if len(estimates) < 4:
        return False
    lower, _, upper = quantiles([each.mean for each in estimates], n=4, method="inclusive")
    spread = max(upper - lower, median(each.ends[1] - each.ends[0] for each in estimates))
    return bool(spread) and not lower - 4 * spread <= estimate.mean <= upper + 4 * spread


def gather_arms(runs: Iterable[Row]) -> list[Arm]:
    """The arms of these runs, those without a regularizer first, and of one regularizer those with SGD."""
    by_arm: dict[str, list[Row]] = {}
    for run in runs:
        by_arm.setdefault(run["arm_id"], []).append(run)
    arms = []
    for arm_id, rows in by_arm.items():
        regularizer, optimizer = (shown(rows[0][axis]) for axis in ("regularizer", "optimizer"))
        arms.append(Arm(arm_id, regularizer, optimizer, rows[0]["settings"], rows))
    return sorted(arms, key=lambda arm: (*_first("none", arm.regularizer), *_first("sgd", arm.optimizer), arm.settings))


def gather_optimizers(arms: Iterable[Arm]) -> list[str]:
    """The optimizers of the arms, SGD first; the first is the one whose markers are filled."""
    return sorted({arm.optimizer for arm in arms}, key=lambda optimizer: _first("sgd", optimizer))


def group_by(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> dict[Hashable, list[Row]]:
    """Rows that share a key, in the order of its first row."""
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def shown(word: str) -> str:
    """A word of an axis on one line, without control characters."""
    return escape(" ".join(word.split()))


def _first(word: str, of: str) -> tuple[bool, str]:
    return of != word, of
