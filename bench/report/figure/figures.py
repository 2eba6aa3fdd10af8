"""The figures of an experiment, from its tables: which there are, and their files.

Per dataset and model: each metric's means and its differences to the baseline, reliability diagrams, training curves,
accuracy against cost, and calibration against accuracy. A figure that its tables have nothing for is left out.
"""

import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from bench.disk.files import write_atomically
from bench.disk.gone import remove
from bench.record.tables import Row
from bench.report.figure.arms import METRICS, gather_arms, shown
from bench.report.figure.curves import draw_curves
from bench.report.figure.forest import draw_differences, draw_metric
from bench.report.figure.reliability import draw_reliability
from bench.report.figure.style import house_style
from bench.report.figure.tradeoffs import draw_calibration, draw_cost

NAMES = [
    *(name for metric in METRICS for name in (metric.column, f"{metric.column}_differences")),
    *("reliability", "curves", "cost", "calibration"),
]
_DPI = 150


@dataclass(frozen=True)
class Tables:
    """An experiment's tables as rows of text.

    Attributes:
        runs: runs.csv.
        comparison: comparison.csv.
        history: history.csv.
        reliability: each arm's bins of confidence, before and after temperature scaling.
    """

    runs: Sequence[Row]
    comparison: Sequence[Row] = ()
    history: Sequence[Row] = ()
    reliability: Sequence[Row] = ()


def draw_figures(tables: Tables) -> Iterator[tuple[str, Figure]]:
    """Each figure with its name, those of one dataset and model after another.

    Where there are several of these, names end in them; the part before the first hyphen is one of NAMES.
    """
    suffixes = _suffixes(tables.runs)
    for (dataset, model), suffix in suffixes.items():
        here = [(row["dataset"], row["model"]) == (dataset, model) for row in tables.runs]
        runs = [row for row, is_here in zip(tables.runs, here, strict=True) if is_here]
        comparison = [row for row in tables.comparison if (row["dataset"], row["model"]) == (dataset, model)]
        for name, draw in _figures(runs, comparison, tables, f"{shown(model)} on {shown(dataset)}").items():
            with house_style():
                figure = draw()
            if figure:
                yield name + suffix, figure


def write_figures(folder: Path, tables: Tables) -> list[str]:
    """Writes each figure as NAME.png and NAME.svg, and returns the names."""
    names = []
    for name, figure in draw_figures(tables):
        write_atomically(folder / f"{name}.svg", to_svg(name, figure))
        with house_style():
            figure.set_layout_engine(None)  # all stays where it has been put, as seeking it again takes time
        write_atomically(folder / f"{name}.png", to_png(figure))
        names.append(name)
    return names


def remove_others(folder: Path, names: Sequence[str]) -> None:
    """Removes the figures that are not among `names`, of a folder that holds those of one experiment."""
    for file in folder.glob("*.*"):
        ours = file.name.partition(".")[0].partition("-")[0] in NAMES and file.suffix in (".png", ".svg")
        if ours and file.stem not in names:
            remove(file)


def to_svg(name: str, figure: Figure) -> bytes:
    """The figure without a background, text as text; equal bytes for equal figures and versions of Matplotlib."""
    with house_style(name):
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = re.sub(r"\n +", "\n", file.getvalue().decode())
    return re.sub(r"<[^>]*>", _shorten, svg).encode()


def to_png(figure: Figure) -> bytes:
    """The figure on white."""
    with house_style():
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=_DPI, facecolor="white")
    return file.getvalue()


def _shorten(tag: re.Match[str]) -> str:
    """An element's start in fewer characters: hundredths of a point, and no rotation by nothing."""
    still = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag[0])
    return re.sub(r"(\d\.\d\d)\d+", r"\1", still)


def _figures(
    runs: Sequence[Row], comparison: Sequence[Row], tables: Tables, where: str
) -> dict[str, Callable[[], Figure | None]]:
    """What draws each figure of one dataset and model."""
    arms = gather_arms(runs)
    figures: dict[str, Callable[[], Figure | None]] = {}
    for metric in METRICS:
        figures[metric.column] = partial(draw_metric, arms, metric, where)
        figures[f"{metric.column}_differences"] = partial(draw_differences, arms, comparison, metric, where)
    figures["reliability"] = partial(draw_reliability, arms, tables.reliability, where)
    figures["curves"] = partial(draw_curves, arms, tables.history, where)
    figures["cost"] = partial(draw_cost, arms, where)
    figures["calibration"] = partial(draw_calibration, arms, where)
    return figures


def _suffixes(runs: Sequence[Row]) -> dict[tuple[str, str], str]:
    """What ends the names of the figures of each dataset and model: nothing where there is one."""
    places = sorted({(row["dataset"], row["model"]) for row in runs})
    if len(places) < 2:
        return dict.fromkeys(places, "")
    slugs = {place: "-".join(re.sub(r"[^A-Za-z0-9_-]+", "-", word)[:60] for word in place) for place in places}
    alike = [slug.lower() for slug in slugs.values()]
    return {
        place: f"-{slug}" if alike.count(slug.lower()) == 1 else f"-{slug}-{zlib.crc32(repr(place).encode()):08x}"
        for place, slug in slugs.items()
    }
