"""What is shown of rankings: the table of mean ranks with each place's differences, and the diagram of Demšar 2006."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from bench.console.blocks import print_table
from bench.console.lines import print_line
from bench.disk.files import to_csv, write_atomically
from bench.disk.lock import wait_for
from bench.measure.quantities import format_number
from bench.record.read_tables import Row
from bench.report.figure.figures import to_png, to_svg
from bench.report.figure.style import INK, house_style, look_of, make_figure
from bench.report.ranks import PAIR_COLUMNS, RANK_COLUMNS, Name, Ranking, rank_arms, to_rows

FOLDER = "across"  # in the results: a folder for each set of experiments


def show_across(
    console: Console, results: Path, experiments: Mapping[str, Sequence[Row]], metrics: Sequence[str], write: bool
) -> None:
    """Prints what holds over several experiments, and writes its tables and diagrams.

    Args:
        console: where to.
        results: the folder of results.
        experiments: the rows of runs.csv of each.
        metrics: columns of runs.csv to rank by.
        write: whether results can be written to.
    """
    rankings = rank_arms(experiments, metrics)
    if not rankings:
        print_line(
            console, "In general: these experiments have no two arms in common with finished runs of a common seed."
        )
        return
    for ranking in rankings:
        _show(console, ranking)
    if write:
        folder = results / FOLDER / "+".join(experiments)
        _write(folder, rankings)
        print_line(console, f"Ranks, pairs and diagrams: {folder}")


def _show(console: Console, ranking: Ranking) -> None:
    quantity, places = ranking.quantity, ranking.places
    print_line(console, f"\nIn general, by {quantity.title}: {len(places)} places", style="bold")
    for number, place in enumerate(places, 1):
        print_line(console, f"({number}) {place}")
    rows = []
    for k in np.argsort(ranking.mean_ranks, kind="stable").tolist():
        cells = [_describe_difference(ranking, i, k) for i in range(len(places))]
        rows.append([str(ranking.arms[k]), f"{ranking.mean_ranks[k]:.2f}", *cells])
    print_table(console, ["arm", "mean rank", *(f"({number})" for number in range(1, len(places) + 1))], rows)
    print_line(console, f"{ranking.describe()}. Ranks: 1 is best. Beside them the mean, or the difference to `none`.")


def _describe_difference(ranking: Ranking, place: int, arm: int) -> str:
    """What an arm has beyond `none` of its optimizer in a place; of `none` itself, and without it, the value."""
    quantity, value = ranking.quantity, ranking.values[place, arm]
    none = Name("none", ranking.arms[arm].optimizer)
    if none in ranking.arms and ranking.arms[arm] != none:
        other = ranking.values[place, ranking.arms.index(none)]
        return format_number((value - other) * quantity.factor, quantity.digits, "+")
    return format_number(value * quantity.factor, quantity.digits)


def _write(folder: Path, rankings: Sequence[Ranking]) -> None:
    folder.parent.mkdir(exist_ok=True)
    with wait_for(folder):
        ranks, pairs = zip(*map(to_rows, rankings), strict=True)
        write_atomically(folder / "ranks.csv", to_csv(RANK_COLUMNS, [row for rows in ranks for row in rows]))
        write_atomically(folder / "pairs.csv", to_csv(PAIR_COLUMNS, [row for rows in pairs for row in rows]))
        for ranking in rankings:
            name = re.sub(r"\W", "_", ranking.quantity.column)
            with house_style():
                figure = draw_ranks(ranking)
            write_atomically(folder / f"{name}.svg", to_svg(name, figure))
            write_atomically(folder / f"{name}.png", to_png(figure))


def draw_ranks(ranking: Ranking) -> Figure:
    """A critical-difference diagram: arms on the line of mean ranks; a bar joins those of which no two differ."""
    n, order = len(ranking.arms), np.argsort(ranking.mean_ranks, kind="stable").tolist()
    groups, left = ranking.find_groups(), (n + 1) // 2
    title = f"Mean ranks by {ranking.quantity.title} in {len(ranking.places)} places"
    note = f"1 is best; bars join arms of which no two differ beyond chance (Wilcoxon, Holm). {ranking.describe()}."
    figure = make_figure(7.5, 1.6 + 0.13 * len(groups) + 0.26 * left, title, note)
    axes = figure.subplots()
    below = 0.5 + 0.5 * len(groups)
    for number, (first, last) in enumerate(groups):
        ends = ranking.mean_ranks[[order[first], order[last]]] + (-0.04, 0.04)
        axes.plot(ends, [-0.5 - 0.5 * number] * 2, color=INK, linewidth=3, solid_capstyle="butt")
    for position, k in enumerate(order):
        rank, at_left = ranking.mean_ranks[k], position < left
        row = position if at_left else n - 1 - position
        y, edge = -below - 0.9 * row, 1 - 0.02 * (n - 1) if at_left else n + 0.02 * (n - 1)
        look = look_of(ranking.arms[k].regularizer, ranking.arms[k].optimizer == ranking.arms[0].optimizer)
        axes.plot([rank, rank, edge], [0, y, y], color=INK, linewidth=0.8)
        axes.plot(rank, 0, clip_on=False, **look.style())
        label = f"{ranking.arms[k]}  {rank:.2f}" if at_left else f"{rank:.2f}  {ranking.arms[k]}"
        axes.text(edge, y, f" {label} ", ha="right" if at_left else "left", va="center", fontsize=8.5)
    axes.set(xlim=(1 - 0.6 * (n - 1), n + 0.6 * (n - 1)), ylim=(-below - 0.9 * left, 0.6), yticks=[])
    axes.xaxis.tick_top()
    axes.set_xticks(range(1, n + 1))
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set(visible=True, bounds=(1, n), position=("data", 0))
    return figure
