"""The comparison by statistics that a single seed does not ruin, as a table like that of the means."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.evidence.pairing import METRICS, Arm
from bench.evidence.robust import bootstrap_improvement, bootstrap_mean
from bench.evidence.stats import FEWEST_SEEDS
from bench.measure import QUALITIES
from bench.measure.quantities import Quantity, format_number
from bench.report.cells import Cell
from bench.report.layout import Layout, Line

_NOTE = (
    "IQM: interquartile mean over seeds. P better: how likely a run is better than one of `{baseline}` with all else "
    "equal, over all pairs of runs. In brackets 95 % bootstrap intervals over seeds (Agarwal et al. 2021), which are "
    "too narrow with few seeds."
)


def make_robust(layout: Layout, arms: Mapping[str, Arm], baseline: str = "none") -> Layout:
    """A layout's arms with the interquartile mean of each quality that it shows, and the probability of improvement."""
    shown = [quantity for quantity in layout.quantities if quantity.column in QUALITIES]
    columns: list[Quantity] = []
    for quantity in shown:
        columns.append(replace(quantity, column=f"{quantity.column}_iqm", title=f"{quantity.title} IQM"))
        if quantity.better:
            columns.append(Quantity(f"{quantity.column}_p_better", "P better", "higher", digits=2))
    lines = [_make_line(line, shown, arms) for line in layout.lines]
    return replace(layout, quantities=columns, lines=lines, notes=[_NOTE.format(baseline=baseline)])


def _make_line(line: Line, shown: Sequence[Quantity], arms: Mapping[str, Arm]) -> Line:
    arm, baseline = arms[line.arm["arm_id"]], arms.get(line.arm["baseline"] or "")
    cells, row = [], dict(line.arm)
    for quantity in shown:
        ours, theirs = (_values(each, quantity) for each in (arm, baseline))
        found = {"iqm": bootstrap_mean(ours) if len(ours) else None}
        if quantity.better:
            both = len(ours) and len(theirs)
            found["p_better"] = bootstrap_improvement(quantity.gain(ours[:, None], theirs)) if both else None
        enough = {"iqm": len(ours) >= FEWEST_SEEDS, "p_better": min(len(ours), len(theirs)) >= FEWEST_SEEDS}
        for key, numbers in found.items():
            factor, digits = (quantity.factor, quantity.digits) if key == "iqm" else (1, 2)
            cells.append(_make_cell(numbers, factor, digits, enough[key]))
            for part, number in zip(("mean", "low", "high"), numbers or (), strict=False):
                row[f"{quantity.column}_{key}_{part}"] = number
    return replace(line, cells=[*cells, *line.cells[-2:]], arm=row)


def _values(arm: Arm | None, quantity: Quantity) -> Any:
    each = np.array([] if arm is None else [values[METRICS.index(quantity.column)] for values in arm.values.values()])
    return each[~np.isnan(each)]


def _make_cell(numbers: tuple[float, float, float] | None, factor: float, digits: int, enough: bool) -> Cell:
    if numbers is None:
        return Cell()
    mean, *ends = (format_number(factor * number, digits) for number in numbers)
    return Cell(f"{mean} [{', '.join(ends)}]" if enough else mean, value=factor * numbers[0])
