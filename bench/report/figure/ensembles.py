"""The figure of ensembles: accuracy and NLL of the mean of 1, 2, … of an arm's runs."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.record.tables import Row
from bench.report.figure.arms import ACCURACY, NLL, Arm, gather_optimizers, group_by, number
from bench.report.figure.curves import fit_columns, list_lines, make_styles
from bench.report.figure.style import legend_height, make_figure, make_legend, mark_arms, show_grid

_NOTE = (
    "Of the mean of so many runs' probabilities, mean over their subsets: at 1 the single runs, at the right the "
    "ensemble of all."
)


def draw_ensembles(arms: Sequence[Arm], rows: Sequence[Row], where: str) -> Figure | None:
    """A line per arm over the number of members, a column per optimizer; None where no arm has two runs, or there are
    too many lines to tell apart."""
    by_arm = group_by(rows, lambda row: row["arm_id"])
    drawn = [arm for arm in arms if len(by_arm.get(arm.arm_id, ())) > 1]
    groups = [[arm for arm in drawn if arm.optimizer == each] for each in gather_optimizers(drawn)]
    if not drawn or not fit_columns(groups):
        return None
    styles = make_styles(drawn)
    handles, labels, of_names = list_lines(drawn, styles)
    width, height = 3.4 + 3.1 * len(groups), max(5.3, 1 + legend_height(labels))
    figure = make_figure(width, height, f"Ensembles of {where}", _NOTE, legend=3)
    grid = figure.subplots(2, len(groups), squeeze=False, sharex=True, sharey="row")
    for metric, line in zip((ACCURACY, NLL), grid, strict=True):
        line[0].set_ylabel(metric.axis)
        column = metric.column.removeprefix("test_")
        for group, axes in zip(groups, line, strict=True):
            for arm in group:
                found = [(int(row["members"]), number(row, column)) for row in by_arm[arm.arm_id]]
                points = sorted((members, metric.factor * value) for members, value in found if value is not None)
                mark_arms(axes.plot(*zip(*points, strict=True), **styles[arm.arm_id]), arm.arm_id)
            show_grid(axes)
    for group, top, bottom in zip(groups, grid[0], grid[-1], strict=True):
        top.set_title(group[0].optimizer, loc="left")
        bottom.set_xlabel("members")
        bottom.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    make_legend(figure, handles, labels, of_names)
    return figure
