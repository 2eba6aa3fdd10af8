"""Figures of what probes measured of trained models: accuracy on corrupted images, and how the loss rises."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.evidence.stats import FEWEST_SEEDS
from bench.measure.probed import PROBED
from bench.record.tables import Row
from bench.report.figure.arms import ACCURACY, Arm, Estimate, gather_optimizers, group_by, number
from bench.report.figure.curves import fit_columns, list_lines, make_styles
from bench.report.figure.style import legend_height, make_figure, make_legend, mark_arms, show_grid

_COLUMNS = 3  # of panels
_MOST_INTERVALS = 6  # in a panel: more of them cover one another
_WIDTH = 0.2  # over which those of a place are spread, where places are 1 apart
_STRENGTHS = {
    "noise": "deviation (white is 1)",
    "blur": "deviation (pixels of 32)",
    "contrast": "factor",
    "brightness": "factor",
    "jpeg": "quality",
}
_KINDS = {"sharpness": "sharpness_", "m-sharpness": "m_sharpness_", "adaptive sharpness": "adaptive_sharpness_"}

_Line = list[tuple[float, Estimate]]  # from left to right
_Panels = dict[str, dict[str, _Line]]  # by title, and arm_id


def draw_corruptions(arms: Sequence[Arm], rows: Sequence[Row], where: str) -> Figure | None:
    """A panel per corruption, for each optimizer, and in it a line per arm, from the clean images to the strongest.

    None where nothing was measured, or there are too many lines to tell apart.

    Args:
        arms: of one dataset and model.
        rows: of corruptions.csv.
        where: the model and the dataset, for the title.
    """
    strengths: dict[str, list[str]] = {}
    for row in rows:
        of_name = strengths.setdefault(row["corruption"], [])
        of_name += [row["strength"]] * (row["strength"] not in of_name)
    clean = [("none", strength) for strength in strengths.pop("none", [])]
    panels: _Panels = {}
    for arm_id, of_arm in group_by(rows, lambda row: row["arm_id"]).items():
        found = {(row["corruption"], row["strength"]): _read(row) for row in of_arm}
        for name, each in strengths.items():
            points = [found.get(key) for key in [*clean, *((name, strength) for strength in each)]]
            line = [(float(at), point) for at, point in enumerate(points) if point]
            panels.setdefault(name, {})[str(arm_id)] = line
    ticks = {name: ["clean"] * len(clean) + each for name, each in strengths.items()}
    note = "From the clean test images at the left to the most corrupted ones at the right."
    labels = {name: _STRENGTHS.get(name, "strength") for name in panels}
    return _draw(arms, panels, f"Accuracy on corrupted images of {where}", note, labels, ACCURACY.axis, ticks)


def draw_sharpness(arms: Sequence[Arm], where: str) -> Figure | None:
    """A panel per kind of sharpness, for each optimizer, and in it a line per arm over rho.

    At rho 0 nothing rises. None as for `draw_corruptions`.
    """
    panels: _Panels = {title: {} for title in _KINDS}
    for title, prefix in _KINDS.items():
        columns = [column for column in PROBED["sharpness"] if column.startswith(prefix)]
        for arm in arms:
            found = [(float(each.removeprefix(prefix).replace("_", ".")), arm.estimate(each)) for each in columns]
            if line := [(rho, estimate) for rho, estimate in found if estimate]:
                panels[title][arm.arm_id] = [(0.0, Estimate(0.0, None)), *line]
    note = (
        "By how much the NLL of training images rises where the weights are moved up its gradient by ρ: SAM's way for "
        "1,000 images together, for 16 at a time (m-sharpness), and ASAM's way (adaptive)."
    )
    return _draw(arms, panels, f"Sharpness of {where}", note, dict.fromkeys(panels, "ρ"), "rise of the NLL (nats)", {})


def _read(row: Row) -> Estimate | None:
    mean, low, high = (number(row, f"accuracy_{part}") for part in ("mean", "low", "high"))
    if mean is None:
        return None
    if low is None or high is None or int(row["seeds"]) < FEWEST_SEEDS:
        return Estimate(100 * mean, None)
    return Estimate(100 * mean, (100 * low, 100 * high))


def _draw(
    arms: Sequence[Arm],
    panels: _Panels,
    title: str,
    note: str,
    below: Mapping[str, str],
    beside: str,
    ticks: Mapping[str, Sequence[str]],
) -> Figure | None:
    """Rows of panels for each optimizer, and a legend for all."""
    drawn = [arm for arm in arms if any(lines.get(arm.arm_id) for lines in panels.values())]
    groups = [[arm for arm in drawn if arm.optimizer == each] for each in gather_optimizers(drawn)]
    if not drawn or not fit_columns(groups):
        return None
    styles = make_styles(drawn)
    handles, labels, of_names = list_lines(drawn, styles)
    points = [point for lines in panels.values() for line in lines.values() for _, point in line]
    shows_intervals = len(labels) <= _MOST_INTERVALS and any(point.interval for point in points)
    rows = -(-len(panels) // _COLUMNS)  # of each optimizer
    height = max(1.1 + 2.4 * rows * len(groups), 1 + legend_height(labels))
    means = f"Means over seeds{', and 95 % t intervals, side by side' * shows_intervals}."
    figure = make_figure(11.5, height, title, f"{note} {means}", legend=3)
    grid = figure.subplots(rows * len(groups), _COLUMNS, squeeze=False)
    blocks = np.split(grid, len(groups))
    for group, block in zip(groups, blocks, strict=True):
        for axes, first, (name, lines) in zip(block.flat, blocks[0].flat, panels.items(), strict=False):
            _draw_panel(axes, {arm.arm_id: lines.get(arm.arm_id, []) for arm in group}, styles, shows_intervals)
            axes.set_title(f"{name}, {group[0].optimizer}" if len(groups) > 1 else name, loc="left")
            axes.set_xlabel(below[name])
            if axes is not first:
                axes.sharey(first)
            if name in ticks:
                axes.set_xticks(range(len(ticks[name])), ticks[name])
        for axes in block.flat[len(panels) :]:
            axes.remove()
        for axes in block[:, 0]:
            axes.set_ylabel(beside)
    make_legend(figure, handles, labels, of_names)
    return figure


def _draw_panel(
    axes: Axes, lines: Mapping[str, _Line], styles: Mapping[str, dict[str, Any]], shows_intervals: bool
) -> None:
    """A line per arm; the intervals of a place stand side by side around it, and the lines where they belong."""
    apart = min((b - a for line in lines.values() for (a, _), (b, _) in pairwise(line)), default=1.0)
    for index, (arm_id, line) in enumerate(lines.items()):
        move = apart * _WIDTH * (index - (len(lines) - 1) / 2) / len(lines)
        at = [x for x, _ in line]
        drawn: list[Artist] = [*axes.plot(at, [estimate.mean for _, estimate in line], **styles[arm_id])]
        if shows_intervals:
            low, high = ([estimate.ends[end] for _, estimate in line] for end in (0, 1))
            drawn.append(
                axes.vlines([x + move for x in at], low, high, color=styles[arm_id]["color"], linewidth=1.1, alpha=0.8)
            )
        mark_arms(drawn, arm_id)
    show_grid(axes)
