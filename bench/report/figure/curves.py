"""The figure of training: objective, validation accuracy and validation NLL over the epochs."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from bench.console.wrap import wrap
from bench.record.tables import Row
from bench.report.figure.arms import Arm, gather_optimizers, group_by, number
from bench.report.figure.style import Look, legend_height, look_of, make_figure, make_legend, mark_arms, show_grid

# Epochs, and the mean, lowest and highest value of the seeds at each.
_Curve = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
_Row = tuple[str, str, float, bool]

# Column of history.csv, label, factor, whether a logarithmic scale may be chosen.
_ROWS: list[_Row] = [
    ("train_loss", "training objective", 1, True),
    ("val_accuracy", "validation accuracy (%)", 100, False),
    ("val_nll", "validation NLL (nats)", 1, True),
]
_DASHES = ["-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (10, 2.5)), (0, (6, 1, 1, 1, 1, 1))]
_NUMBERS = 25_000  # in all lines of the figure at most: an SVG file writes each out
_MARKS = 5  # on a line, and 3 where there are many
_MOST_BANDS = 12  # more of them in a panel cover one another
_MOST_PARTS = 6  # with bands: more of them make a large file
_MOST_LINES = 12  # in a panel
_START = 0.1  # of the epochs: a scale that holds their values shows no differences at the end


def draw_curves(arms: Sequence[Arm], history: Sequence[Row], where: str) -> Figure | None:
    """Means over the seeds of finished runs with bands from the lowest to the highest, a column per optimizer; where
    that would be too many lines to tell apart, a row for a few arms each.

    Panels that have no number, as without a validation split, are left out; None where all are.
    """
    by_run = group_by(history, lambda row: row["run_id"])
    curves = {
        (arm.arm_id, column): curve
        for arm in arms
        for column, _, factor, _ in _ROWS
        if (curve := _gather(arm, by_run, column, factor)) is not None
    }
    rows = [row for row in _ROWS if any(column == row[0] for _, column in curves)]
    drawn = [arm for arm in arms if any(arm_id == arm.arm_id for arm_id, _ in curves)]
    if not rows:
        return None
    curves = {key: _thin(curve, len(curves)) for key, curve in curves.items()}
    styles = make_styles(drawn)
    by_optimizer = [[arm for arm in drawn if arm.optimizer == each] for each in gather_optimizers(drawn)]
    if fit_columns(by_optimizer):
        return _draw_columns(rows, by_optimizer, curves, styles, f"Training of {where}")
    parts = [group[i : i + len(_DASHES)] for group in by_optimizer for i in range(0, len(group), len(_DASHES))]
    return _draw_parts(rows, parts, curves, f"Training of {where}")


def fit_columns(groups: Sequence[Sequence[Arm]]) -> bool:
    """Whether a column of panels for each group of arms has lines that can be told apart."""
    alike = Counter(look_of(regularizer) for regularizer, _ in {_name(arm) for group in groups for arm in group})
    return max(alike.values()) <= len(_DASHES) and max(map(len, groups)) <= _MOST_LINES


def _draw_columns(
    rows: Sequence[_Row],
    groups: Sequence[Sequence[Arm]],
    curves: Mapping[tuple[str, str], _Curve],
    styles: Mapping[str, dict[str, Any]],
    title: str,
) -> Figure:
    """A column for each group of arms, those of one optimizer, and a legend for all."""
    handles, labels, of_names = list_lines([arm for group in groups for arm in group], styles)
    width, height = 3.4 + 3.1 * len(groups), max(0.9 + 2.2 * len(rows), 1 + legend_height(labels))
    has_bands = len(labels) <= _MOST_BANDS
    figure = make_figure(width, height, title, _make_note(has_bands), legend=3)
    grid = figure.subplots(len(rows), len(groups), squeeze=False, sharex=True, sharey="row")
    for (column, label, _, may_be_log), line in zip(rows, grid, strict=True):
        here = {arm_id: curve for (arm_id, of), curve in curves.items() if of == column}
        for group, axes in zip(groups, line, strict=True):
            _draw_group(axes, group, here, styles, has_bands)
        _scale(line[0], list(here.values()), may_be_log)
        line[0].set_ylabel(label)
    for group, top, bottom in zip(groups, grid[0], grid[-1], strict=True):
        top.set_title(group[0].optimizer, loc="left")
        _label_epochs(bottom)
    make_legend(figure, handles, labels, of_names)
    return figure


def _draw_parts(
    rows: Sequence[_Row], parts: Sequence[Sequence[Arm]], curves: Mapping[tuple[str, str], _Curve], title: str
) -> Figure:
    """A row of panels for each few arms, with a legend of its own; a column has one scale."""
    legends = [[_label(arm) for arm in part] for part in parts]
    heights = [max(1.9, legend_height(labels)) for labels in legends]
    has_bands = len(parts) <= _MOST_PARTS
    figure = make_figure(3.4 + 2.7 * len(rows), 1 + sum(heights), title, _make_note(has_bands))
    grid = figure.subplots(len(parts), len(rows), squeeze=False, sharex=True, sharey="col", height_ratios=heights)
    for part, labels, line in zip(parts, legends, grid, strict=True):
        styles = {arm.arm_id: _make_style(arm, index, index) for index, arm in enumerate(part)}
        for axes, (column, label, *_) in zip(line, rows, strict=True):
            axes.set_ylabel(label)
            here = {arm_id: curve for (arm_id, of), curve in curves.items() if of == column}
            _draw_group(axes, part, here, styles, has_bands)
        line[0].set_title(part[0].optimizer, loc="left")
        handles = [Line2D([], [], **styles[arm.arm_id]) for arm in part]
        make_legend(line[-1], handles, labels, [[arm.arm_id] for arm in part])
    for (column, _, _, may_be_log), top, bottom in zip(rows, grid[0], grid[-1], strict=True):
        _scale(top, [curve for (_, of), curve in curves.items() if of == column], may_be_log)
        _label_epochs(bottom)
    return figure


def _draw_group(
    axes: Axes,
    arms: Sequence[Arm],
    curves: Mapping[str, _Curve],
    styles: Mapping[str, dict[str, Any]],
    has_bands: bool,
) -> None:
    there = [arm.arm_id for arm in arms if arm.arm_id in curves]
    for index, arm_id in enumerate(there):
        mark_arms(_draw_curve(axes, curves[arm_id], styles[arm_id], index / len(there), has_bands), arm_id)
    show_grid(axes)


def _label_epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _make_note(has_bands: bool) -> str:
    return (
        f"Mean over the seeds of finished runs{', bands from the lowest to the highest seed' * has_bands}. "
        "Each method minimises an objective of its own: only those of one method compare. "
        "The first tenth of the epochs may be off the scale."
    )


def _gather(arm: Arm, by_run: Mapping[Hashable, Sequence[Row]], column: str, factor: float) -> _Curve | None:
    """The curve of a column over the epochs at which all finished runs that have its numbers have one."""
    seeds = []
    for run in arm.done:
        seed = {int(row["epoch"]): number(row, column) for row in by_run.get(run["run_id"], ())}
        seeds.append({epoch: factor * value for epoch, value in seed.items() if value is not None})
    seeds = [seed for seed in seeds if seed]
    epochs = sorted(set[int].intersection(*map(set, seeds))) if seeds else []
    if not epochs:
        return None
    values = np.array([[seed[epoch] for epoch in epochs] for seed in seeds])
    return np.array(epochs, dtype=np.float64), values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def _name(arm: Arm) -> tuple[str, str]:
    """What an arm's line stands for, in whichever panel; the panels tell its optimizer."""
    return arm.regularizer, arm.short_settings


def _label(arm: Arm) -> str:
    """An arm's words in the legend."""
    return "\n".join(wrap(", ".join(filter(None, _name(arm))), 34))


def list_lines(
    arms: Sequence[Arm], styles: Mapping[str, dict[str, Any]]
) -> tuple[list[Line2D], list[str], list[list[str]]]:
    """The handles, labels and arms of a legend, which has an entry per name whichever panels its lines are in."""
    by_name: dict[tuple[str, str], list[Arm]] = {}
    for arm in arms:
        by_name.setdefault(_name(arm), []).append(arm)
    handles = [Line2D([], [], **styles[alike[0].arm_id]) for alike in by_name.values()]
    labels = [_label(alike[0]) for alike in by_name.values()]
    return handles, labels, [[arm.arm_id for arm in alike] for alike in by_name.values()]


def make_styles(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """How each arm's line is drawn: those of one colour differ in their dashes, those that look alike in any case."""
    of_colour: dict[str, dict[Look, dict[tuple[str, str], int]]] = {}
    styles = {}
    for arm in arms:
        look = look_of(arm.regularizer)
        looks = of_colour.setdefault(look.colour, {})
        names = looks.setdefault(look, {})
        index = names.setdefault(_name(arm), len(names))
        styles[arm.arm_id] = _make_style(arm, index, index + [*looks].index(look))
    return styles


def _make_style(arm: Arm, index: int, dashes: int) -> dict[str, Any]:
    look = look_of(arm.regularizer, filled=index % 2 == 0)
    return look.style(5) | {"linewidth": 1.3, "linestyle": _DASHES[dashes % len(_DASHES)]}


def _thin(curve: _Curve, curves: int) -> _Curve:
    """The curve at fewer epochs, the first and the last among them, where all together hold too many numbers."""
    length = len(curve[0])
    kept = min(length, max(20, _NUMBERS // (3 * curves)))
    chosen = np.linspace(0, length - 1, kept).round().astype(int)
    epochs, mean, low, high = (values[chosen] for values in curve)
    return epochs, mean, low, high


def _draw_curve(axes: Axes, curve: _Curve, style: dict[str, Any], share: float, has_band: bool) -> list[Artist]:
    """Draws a curve; `share` in [0, 1) moves its marks along it, so that those of all curves do not coincide."""
    epochs, mean, low, high = curve
    drawn: list[Artist] = []
    if has_band and (low < high).any():
        drawn.append(axes.fill_between(epochs, low, high, color=style["color"], alpha=0.1, linewidth=0))
    every = max(1, len(epochs) // (_MARKS if has_band else 3))
    return [*drawn, *axes.plot(epochs, mean, markevery=(int(share * every), every), **style)]


def _scale(axes: Axes, curves: Sequence[_Curve], may_be_log: bool) -> None:
    """A logarithmic scale where the values span more than a power of ten, else one that fits all but the start."""
    low = min(curve[2].min() for curve in curves)
    high = max(curve[3].max() for curve in curves)
    if may_be_log and low > 0 and high > 10 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        return
    start = _START * max(curve[0][-1] for curve in curves)
    later = [values[curve[0] > start] for curve in curves for values in curve[2:]]
    low, high = (end(values) for end, values in ((np.min, np.concatenate(later)), (np.max, np.concatenate(later))))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    axes.set_ylim(low - margin, high + margin)
