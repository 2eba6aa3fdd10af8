"""Figures with a point per arm: accuracy against what it costs, and calibration against accuracy.

Some arms share a colour and marker: of one regularizer, of stacks that begin and end alike, of a third optimizer. A
letter beside the point, given in the legend, tells them apart. An arm that is far worse than all others would squeeze
them into a point; the note below names it instead.
"""

import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from matplotlib.transforms import Bbox, BboxBase

from bench.report.figure.arms import ACCURACY, ECE, Arm, Estimate, Metric, gather_optimizers, is_far
from bench.report.figure.style import INK, Look, legend_height, look_of, make_figure, make_legend, mark_arms, show_grid

_Points = dict[str, tuple[Estimate, Estimate]]  # by arm_id: x and y

# Where a letter may stand, from its point, in points of 1/72 inch. Corners come first, as intervals run straight up
# and sideways.
_CORNERS, _SIDES = [(0.85, 0.85), (0.85, -0.85), (-0.85, 0.85), (-0.85, -0.85)], [(1, 0), (-1, 0), (0, 1), (0, -1)]
_DISTANCES = (10, 16, 23, 31, 41, 52, 65, 80, 100, 125, 155, 190)
_PLACES = [(x * r, y * r) for r in _DISTANCES for x, y in (*_CORNERS, *_SIDES)]


@dataclass(frozen=True)
class _Legend:
    """How each arm is drawn and called, by arm_id; letters only for those that need one."""

    looks: dict[str, Look]
    labels: dict[str, str]
    letters: dict[str, str]


def draw_calibration(arms: Sequence[Arm], where: str) -> Figure | None:
    """ECE against accuracy, both with intervals; None where no run has both."""
    off = _off_scale(arms, [ACCURACY, ECE])
    points = _gather([arm for arm in arms if arm not in off], ACCURACY.column, ACCURACY.factor, ECE)
    if not points:
        return None
    note = f"Means and 95 % t intervals over seeds; better is to the right and down.{_describe_off(off)}"
    legend = _make_legend(arms, points)
    figure, (axes,) = _make_panels(legend, 1, f"Calibration against accuracy of {where}", note)
    _draw_points(axes, points, legend)
    axes.set(xlabel=ACCURACY.axis, ylabel=ECE.axis)
    _place_letters(figure, [(axes, points)], legend)
    return figure


def draw_cost(arms: Sequence[Arm], where: str) -> Figure | None:
    """Accuracy against gradient evaluations, and against seconds where all runs were trained on equal terms."""
    front = _front(_gather(arms, "gradient_evaluations", 1, ACCURACY))
    off = [arm for arm in _off_scale(arms, [ACCURACY]) if arm.arm_id not in front]
    near = [arm for arm in arms if arm not in off]
    panels = {"gradient evaluations": _gather(near, "gradient_evaluations", 1, ACCURACY)}
    if _on_equal_terms(arms):
        panels["seconds of training steps"] = _gather(near, "train_seconds", 1, ACCURACY)
    panels = {label: points for label, points in panels.items() if points}
    if not panels:
        return None
    spread = {label: _spread(points) for label, points in panels.items()}
    note = (
        "Means and 95 % t intervals over seeds; better is to the left and up. The dashed line is the Pareto front of "
        "the means: no arm on it is beaten by one that costs no more."
        + (" Points of equal cost stand beside one another." if spread != panels else "")
        + _describe_off(off)
    )
    legend = _make_legend(arms, {arm_id: point for points in panels.values() for arm_id, point in points.items()})
    figure, grid = _make_panels(legend, len(panels), f"Accuracy against cost of {where}", note)
    for axes, (label, points) in zip(grid, panels.items(), strict=True):
        _draw_points(axes, spread[label], legend)
        _draw_front(axes, points)
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if max(x.mean for x, _ in points.values()) >= 10_000:
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    grid[0].set_ylabel(ACCURACY.axis)
    _place_letters(figure, list(zip(grid, spread.values(), strict=True)), legend)
    return figure


def _gather(arms: Sequence[Arm], x: str, x_factor: float, y: Metric) -> _Points:
    both = {arm.arm_id: (arm.estimate(x, x_factor), arm.estimate(y.column, y.factor)) for arm in arms}
    return {arm_id: (one, other) for arm_id, (one, other) in both.items() if one and other}


def _off_scale(arms: Sequence[Arm], metrics: Sequence[Metric]) -> list[Arm]:
    """The arms that are far worse than most in one of the metrics."""
    off: dict[str, Arm] = {}
    for metric in metrics:
        estimates = [(arm, estimate) for arm in arms if (estimate := arm.estimate(metric.column))]
        middle = median(estimate.mean for _, estimate in estimates) if estimates else 0
        for arm, estimate in estimates:
            is_worse = (estimate.mean < middle) == metric.higher_is_better
            if is_worse and is_far(estimate, [each for _, each in estimates]):
                off[arm.arm_id] = arm
    return list(off.values())


def _describe_off(off: Sequence[Arm]) -> str:
    names = "; ".join(arm.label(200) for arm in off)
    return f" Far worse than the others and not shown: {names}." if off else ""


def _on_equal_terms(arms: Sequence[Arm]) -> bool:
    """Whether seconds compare: one kind of machine, as many threads, as many runs at a time."""
    terms = {(run["workers"], run["threads"], run["hardware"]) for arm in arms for run in arm.done}
    return len(terms) == 1 and all(terms.pop())


def _spread(points: _Points) -> _Points:
    """The points, those of equal cost side by side: few methods differ in their number of gradient evaluations."""
    costs = sorted({x.mean for x, _ in points.values()})
    whole = (costs[-1] - costs[0]) or costs[0]
    room = min([0.5 * whole, *(high - low for low, high in pairwise(costs))])
    count, seen = Counter(x.mean for x, _ in points.values()), Counter[float]()
    spread = {}
    for arm_id, (x, y) in points.items():
        if count[x.mean] > 1 and x.ends[0] == x.ends[1]:
            step = min(0.8 * room / count[x.mean], 0.04 * whole)
            moved = x.mean + step * (seen[x.mean] - (count[x.mean] - 1) / 2)
            seen[x.mean] += 1
            x = Estimate(moved, None)
        spread[arm_id] = (x, y)
    return spread


def _make_legend(arms: Sequence[Arm], points: _Points) -> _Legend:
    """What the arms with a point look like and are called, with a, b, … z, aa, ab, … for those with settings, or that
    look like another."""
    shown = [arm for arm in arms if arm.arm_id in points]
    first = gather_optimizers(arms)[0]
    alphabet = string.ascii_lowercase
    words = [*alphabet, *(x + y for x in alphabet for y in alphabet)]
    looks = {arm.arm_id: look_of(arm.regularizer, arm.optimizer == first) for arm in shown}
    alike = Counter(looks.values())
    named = [arm.arm_id for arm in shown if arm.settings or alike[looks[arm.arm_id]] > 1]
    letters = dict(zip(named, words, strict=False))
    return _Legend(
        looks,
        {arm.arm_id: arm.label(34) + f" ({letters.get(arm.arm_id)})" * (arm.arm_id in letters) for arm in shown},
        letters,
    )


def _make_panels(legend: _Legend, count: int, title: str, note: str) -> tuple[Figure, list[Axes]]:
    """Panels beside one another that share the y axis, with the legend at the right."""
    labels = list(legend.labels.values())
    figure = make_figure(9.2 if count == 1 else 11.5, max(4.6, 1 + legend_height(labels)), title, note, 3.3)
    handles = [Line2D([], [], **look.style() | {"linestyle": "none"}) for look in legend.looks.values()]
    make_legend(figure, handles, labels, [[arm_id] for arm_id in legend.labels])
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=True)[0])


def _draw_points(axes: Axes, points: _Points, legend: _Legend) -> None:
    for arm_id, (x, y) in points.items():
        look = legend.looks[arm_id]
        upright = axes.plot([x.mean, x.mean], y.ends, color=look.colour, linewidth=1.1, alpha=0.8)
        across = axes.plot(x.ends, [y.mean, y.mean], color=look.colour, linewidth=1.1, alpha=0.8)
        mark_arms([*upright, *across, *axes.plot([x.mean], [y.mean], zorder=3, **look.style(7.5))], arm_id)
    show_grid(axes)


def _front(points: _Points) -> list[str]:
    """The arms that no other beats in accuracy at no more cost, by cost."""
    front: list[str] = []
    for arm_id, (_, accuracy) in sorted(points.items(), key=lambda item: (item[1][0].mean, -item[1][1].mean)):
        if not front or accuracy.mean > points[front[-1]][1].mean:
            front.append(arm_id)
    return front


def _draw_front(axes: Axes, points: _Points) -> None:
    steps = [(x.mean, y.mean) for x, y in map(points.__getitem__, _front(points))]
    steps.append((max(x.ends[1] for x, _ in points.values()), steps[-1][1]))
    axes.step(*zip(*steps, strict=True), where="post", color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)


def _place_letters(figure: Figure, panels: Sequence[tuple[Axes, _Points]], legend: _Legend) -> None:
    """Sets each letter where it covers no other and no point, a thin line to its point where it is not beside it.

    One for which there is no such place stands on its point.
    """
    if not legend.letters:
        return
    figure.draw_without_rendering()  # places depend on the layout
    unit = figure.dpi / 72
    for axes, points in panels:
        at = {arm_id: axes.transData.transform((x.mean, y.mean)) for arm_id, (x, y) in points.items()}
        taken = [Bbox.from_bounds(x - 4 * unit, y - 4 * unit, 8 * unit, 8 * unit) for x, y in at.values()]
        for arm_id, (x, y) in points.items():
            letter = legend.letters.get(arm_id)
            if letter:
                place = _find_place(at[arm_id], len(letter), unit, axes.bbox, taken)
                line = {"arrowstyle": "-", "linewidth": 0.5, "color": INK} if max(map(abs, place)) > 11 else None
                text = axes.annotate(letter, (x.mean, y.mean), place, textcoords="offset points", arrowprops=line)
                text.set(ha="center", va="center", fontsize=8, in_layout=False)
                mark_arms(filter(None, (text, text.arrow_patch)), arm_id)


def _find_place(at: Any, letters: int, unit: float, inside: BboxBase, taken: list[Bbox]) -> tuple[float, float]:
    """The first free place for so many letters, noted as taken; the point itself where there is none.

    Args:
        at: x and y of the point, in pixels.
        letters: how many.
        unit: pixels per point of 1/72 inch.
        inside: where letters may stand, in pixels.
        taken: boxes that they must not touch, in pixels.
    """
    width, height = (7 * letters + 1) * unit, 10 * unit
    for dx, dy in _PLACES:
        x, y = at[0] + dx * unit, at[1] + dy * unit
        box = Bbox.from_bounds(x - width / 2, y - height / 2, width, height)
        if inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1) and not any(map(box.overlaps, taken)):
            taken.append(box)
            return dx, dy
    return 0, 0
