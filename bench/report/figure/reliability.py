"""The figure of reliability diagrams: a small one per arm, before and after temperature scaling."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.record.tables import Row
from bench.report.figure.arms import Arm, group_by, number
from bench.report.figure.style import INK, look_of, make_figure, mark_arms, show_grid

_AT_MOST = 24  # diagrams
_COLUMNS = 4
_TITLE = 24  # characters on a line


def draw_reliability(arms: Sequence[Arm], rows: Sequence[Row], where: str) -> Figure | None:
    """Accuracy against confidence of each arm, and how many predictions are in each bin; None without rows."""
    by_arm = group_by(rows, lambda row: row["arm_id"])
    all_of_them = [arm for arm in arms if arm.arm_id in by_arm]
    shown = all_of_them[:_AT_MOST]
    if not shown:
        return None
    lines = -(-len(shown) // _COLUMNS)
    columns = min(_COLUMNS, max(len(shown), 2))  # one alone would be twice as wide as high
    title = f"Reliability of {where}"
    if len(shown) < len(all_of_them):
        title += f": {len(shown)} of {len(all_of_them)} arms"
    note = (
        "Accuracy against mean confidence in 15 bins of equal width, over all seeds; below the dashed diagonal is "
        "over-confident. Beneath, the share of the predictions that is in each bin. Filled and solid: before "
        "temperature scaling; open and dotted: after."
    )
    most = max(arm.label(_TITLE).count("\n") for arm in shown) + 1
    figure = make_figure(0.9 + 2.0 * columns, 1 + (2.75 + 0.15 * max(0, most - 3)) * lines, title, note)
    grid = figure.subplots(2 * lines, columns, squeeze=False, height_ratios=[3, 1] * lines)
    top = 100 * max(max(_shares(by_arm[arm.arm_id], scaled), default=0) for arm in shown for scaled in "01")
    for index, (diagram, histogram) in enumerate(zip(grid[::2].flat, grid[1::2].flat, strict=True)):
        if index >= len(shown):
            diagram.remove()
            histogram.remove()
            continue
        mark_arms((diagram, histogram), shown[index].arm_id)
        _draw_diagram(diagram, shown[index], by_arm[shown[index].arm_id])
        _draw_histogram(histogram, shown[index], by_arm[shown[index].arm_id], top)
        if index % columns == 0:
            diagram.set_ylabel("accuracy (%)")
            histogram.set_ylabel("share (%)")
        else:
            for axes in (diagram, histogram):
                axes.tick_params(labelleft=False)
        if index + columns >= len(shown):
            histogram.set_xlabel("confidence (%)")
    return figure


def _draw_diagram(axes: Axes, arm: Arm, rows: Sequence[Row]) -> None:
    axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    for scaled, linestyle in (("0", "-"), ("1", ":")):
        both = [(number(row, "confidence"), number(row, "accuracy")) for row in _sorted(rows, scaled)]
        points = [(100 * x, 100 * y) for x, y in both if x is not None and y is not None]
        if points:
            style = look_of(arm.regularizer, scaled == "0").style(4)
            style |= {"linestyle": linestyle, "linewidth": 1.1, "markeredgewidth": 0.9}
            axes.plot(*zip(*points, strict=True), **style)
    axes.set(xlim=(-3, 103), ylim=(-3, 103), xticks=[0, 50, 100], yticks=[0, 50, 100])
    axes.tick_params(labelbottom=False)
    axes.set_title(arm.label(_TITLE), loc="left", fontsize=8.5)
    show_grid(axes)


def _draw_histogram(axes: Axes, arm: Arm, rows: Sequence[Row], top: float) -> None:
    colour = look_of(arm.regularizer).colour
    before, after = ([100 * share for share in _shares(rows, scaled)] for scaled in "01")
    for shares, style in ((before, {"fill": True, "alpha": 0.45}), (after, {"linestyle": ":", "linewidth": 1.2})):
        if shares:
            edges = [100 * index / len(shares) for index in range(len(shares) + 1)]
            axes.stairs(shares, edges, color=colour, **style)
    axes.set(xlim=(-3, 103), ylim=(0, 1.05 * top), xticks=[0, 50, 100])
    show_grid(axes)


def _shares(rows: Sequence[Row], scaled: str) -> list[float]:
    """The share of all predictions that is in each bin, in [0, 1]; empty where there are none."""
    counts = [number(row, "count") or 0 for row in _sorted(rows, scaled)]
    whole = sum(counts)
    return [count / whole for count in counts] if whole else []


def _sorted(rows: Sequence[Row], scaled: str) -> list[Row]:
    return sorted((row for row in rows if row["scaled"] == scaled), key=lambda row: int(row["bin"]))
