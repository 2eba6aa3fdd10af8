"""Figures with a line per arm: a metric's means, and the paired differences to a baseline.

Each line has its interval, and its numbers at the right. An arm that is far from all others would squeeze them into a
point; it becomes an arrowhead at the edge then.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.evidence.comparison import Comparison
from bench.evidence.stats import LEVEL_OF_TESTS
from bench.measure.quantities import format_number
from bench.report.figure.arms import Arm, Estimate, Metric, gather_optimizers, is_far
from bench.report.figure.style import INK, Look, look_of, make_figure, mark_arms, show_grid

_WIDTH = 8.6
_BELOW = 0.085  # inches from an interval to its seeds
_GAP = 2 * "\N{EM SPACE}"  # a browser makes one of two plain spaces
_SAME = "with the same regularizer"
_OFF_SCALE = "Arrowheads at the edge are off the scale; their numbers are at the right."


@dataclass(frozen=True)
class _Line:
    """What stands on a line; lines of one group stand closer together."""

    arm_id: str
    group: str
    label: str
    look: Look
    estimate: Estimate | None
    numbers: str

    @property
    def height(self) -> float:
        """Inches."""
        return 0.13 + 0.15 * (self.label.count("\n") + 1)


def draw_metric(arms: Sequence[Arm], metric: Metric, where: str) -> Figure | None:
    """Each arm's mean of a metric with its 95 % t interval, and its seeds; None where no run has the number."""
    first = gather_optimizers(arms)[0]
    lines = []
    for arm in arms:
        estimate = arm.estimate(metric.column, metric.factor)
        look = look_of(arm.regularizer, arm.optimizer == first)
        lines.append(_Line(arm.arm_id, arm.regularizer, arm.label(), look, estimate, _describe_mean(estimate, metric)))
    better = "higher" if metric.higher_is_better else "lower"
    note = f"Mean and 95 % t interval over seeds, small dots below are the seeds; {better} is better."
    if any(arm.optimizer != first for arm in arms):
        note += f" Filled markers: {first}."
    figure = _draw_panels({"": lines}, f"{metric.noun[0].upper()}{metric.noun[1:]} of {where}", note)
    if figure:
        figure.axes[-1].set_xlabel(metric.axis)
    return figure


def draw_differences(arms: Sequence[Arm], compared: Sequence[Comparison], metric: Metric, where: str) -> Figure | None:
    """Each arm's paired difference to its baseline, in a panel per kind of baseline; None where there is none.

    Args:
        arms: all of the dataset and model.
        compared: their comparisons by the metric.
        metric: which to show.
        where: words for the title.
    """
    known = {arm.arm_id: arm for arm in arms}
    order = {arm_id: index for index, arm_id in enumerate(known)}
    panels: dict[str, list[_Line]] = {}
    for each in sorted(compared, key=lambda each: order[each.arm.arm_id]):
        panel = _describe_baseline(each, known[each.baseline.arm_id])
        panels.setdefault(panel, []).append(_make_line(each, known[each.arm.arm_id], metric))
    panels = dict(sorted(panels.items(), key=lambda panel: _SAME in panel[0]))
    note = (
        "Paired difference with its 95 % interval; n is the number of pairs of seeds, p is adjusted by Holm's method "
        "and the marker is filled where it is below 0.05."
    )
    figure = _draw_panels(panels, f"Differences in {metric.noun} of {where}", note, (0,))
    if figure:
        for axes in figure.axes:
            axes.axvline(0, color=INK, linewidth=1, zorder=1)
        ends = ("worse", "better") if metric.higher_is_better else ("better", "worse")
        label = f"← {ends[0]}{_GAP}{metric.noun}, {metric.difference_unit}{_GAP}{ends[1]} →"
        figure.axes[-1].set_xlabel(label)
    return figure


def _describe_baseline(each: Comparison, baseline: Arm) -> str:
    """What the panel of a comparison is called; the same words for all that belong together."""
    if each.is_of_optimizers:
        return f"against {baseline.optimizer} {_SAME}"
    return f"against {baseline.regularizer} with the same optimizer"


def _make_line(each: Comparison, arm: Arm, metric: Metric) -> _Line:
    look = look_of(arm.regularizer, each.p_holm is not None and each.p_holm < LEVEL_OF_TESTS)
    seeds = f"  n={each.seeds}"
    if each.difference is None:
        return _Line(arm.arm_id, arm.regularizer, arm.label(), look, None, "–" + seeds)
    interval = (metric.factor * each.interval[0], metric.factor * each.interval[1]) if each.interval else None
    values = [metric.factor * each.difference, *(interval or ())]
    first, *others = (format_number(value, metric.digits, "+").replace("-", "−") for value in values)
    p = each.p_holm
    p_text = "" if p is None else f"  p={p:.3f}" if p >= 0.001 else "  p<0.001"
    line = first + (f" [{', '.join(others)}]" if others else "") + seeds + p_text
    return _Line(arm.arm_id, arm.regularizer, arm.label(), look, Estimate(values[0], interval), line)


def _describe_mean(estimate: Estimate | None, metric: Metric) -> str:
    if estimate is None:
        return "–"
    text = format_number(estimate.mean, metric.digits)
    if estimate.interval:
        down, up = (format_number(abs(end - estimate.mean), metric.digits) for end in estimate.interval)
        text += f" ± {up}" if up == down else f" +{up} −{down}"
    return text


def _draw_panels(
    panels: Mapping[str, Sequence[_Line]], title: str, note: str, shown: Iterable[float] = ()
) -> Figure | None:
    """Panels below one another that share the x axis; y is inches from the top. None where there is no number.

    Args:
        panels: lines by what stands above them.
        title: above all.
        note: below all.
        shown: values that the x axis must hold.
    """
    estimates = [line.estimate for lines in panels.values() for line in lines if line.estimate]
    if not estimates:
        return None
    near = [estimate for estimate in estimates if not is_far(estimate, estimates)]
    heights = [_place(lines)[1] for lines in panels.values()]
    note = note if len(near) == len(estimates) else f"{note} {_OFF_SCALE}"
    figure = make_figure(_WIDTH, sum(heights) + 0.35 * len(heights) + 1.2, title, note)
    grid = figure.subplots(len(panels), height_ratios=heights, squeeze=False, sharex=True)
    values = [value for estimate in near for value in (*estimate.ends, *estimate.values)] + list(shown)
    margin = 0.04 * (max(values) - min(values)) or 0.05 * abs(values[0]) or 0.5
    grid[0, 0].set_xlim(min(values) - margin, max(values) + margin)
    for axes, (above, lines) in zip(grid[:, 0], panels.items(), strict=True):
        axes.set_title(above, loc="left")
        _draw_lines(axes, lines)
    return figure


def _place(lines: Sequence[_Line]) -> tuple[list[float], float]:
    """The middle of each line and the height of all, in inches."""
    middles, top = [], 0.05
    for before, line in zip([None, *lines[:-1]], lines, strict=True):
        top += 0.1 if before and before.group != line.group else 0
        middles.append(top + line.height / 2)
        top += line.height
    return middles, top + 0.05


def _draw_lines(axes: Axes, lines: Sequence[_Line]) -> None:
    middles, height = _place(lines)
    for y, line in zip(middles, lines, strict=True):
        if line.estimate:
            mark_arms(_draw_line(axes, y, line.estimate, line.look), line.arm_id)
    axes.set_ylim(height, 0)
    right = axes.secondary_yaxis("right")
    labels = axes.set_yticks(middles, [line.label for line in lines])
    numbers = right.set_yticks(middles, [line.numbers for line in lines])
    for line, label, number_ in zip(lines, labels, numbers, strict=True):
        mark_arms([label.label1, number_.label2], line.arm_id)
    for each in (axes, right):
        each.tick_params(axis="y", length=0, pad=7)
    right.spines["right"].set_visible(False)
    show_grid(axes)


def _draw_line(axes: Axes, y: float, estimate: Estimate, look: Look) -> list[Line2D]:
    low, high = axes.get_xlim()
    if low <= estimate.mean <= high:
        seeds = [y + _BELOW] * len(estimate.values)
        return [
            *axes.plot(estimate.values, seeds, ".", color=look.colour, markersize=4, alpha=0.5),
            *axes.plot(estimate.ends, [y, y], color=look.colour, linewidth=1.6),
            *axes.plot([estimate.mean], [y], **look.style()),
        ]
    side, marker = (0, "<") if estimate.mean < low else (1, ">")
    edge = axes.get_yaxis_transform()
    return axes.plot([side], [y], transform=edge, clip_on=False, **replace(look, marker=marker).style())
