"""The figures of an experiment, from its tables: which there are, and their files.

Per dataset and model: each metric's means and its differences to the baseline, reliability diagrams, training curves,
accuracy against cost, calibration against accuracy, ensembles of the runs, accuracy on corrupted images, and sharpness.
A figure that its tables have nothing for is left out.

Drawing takes most of a report's time, so a file says what it was made of, and is drawn anew where that has changed. All
is drawn in this process: others would import for half a second each, and outlive a notebook's cell that is interrupted.
"""

import hashlib
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bench.disk.files import write_atomically
from bench.disk.gone import read_if_there, remove
from bench.evidence.comparison import Comparison
from bench.record.tables import Row
from bench.report.figure.arms import METRICS, gather_arms, shown
from bench.report.figure.curves import draw_curves
from bench.report.figure.ensembles import draw_ensembles
from bench.report.figure.forest import draw_differences, draw_metric
from bench.report.figure.probes import draw_corruptions, draw_sharpness
from bench.report.figure.reliability import draw_reliability
from bench.report.figure.style import OF_ARM, house_style
from bench.report.figure.tradeoffs import draw_calibration, draw_cost

NAMES = [
    *(name for metric in METRICS for name in (metric.column, f"{metric.column}_differences")),
    *("reliability", "curves", "cost", "calibration", "ensemble", "corruptions", "sharpness"),
]
_DPI = 150


@dataclass(frozen=True)
class Tables:
    """What is drawn: an experiment's tables, as rows of text.

    Attributes:
        runs: runs.csv.
        comparisons: those of comparison.csv.
        history: history.csv.
        reliability: each arm's bins of confidence, before and after temperature scaling.
        ensemble: ensemble.csv.
        corruptions: corruptions.csv.
    """

    runs: Sequence[Row]
    comparisons: Sequence[Comparison] = ()
    history: Sequence[Row] = ()
    reliability: Sequence[Row] = ()
    ensemble: Sequence[Row] = ()
    corruptions: Sequence[Row] = ()


@dataclass(frozen=True)
class _Planned:
    """A figure that may be drawn; `made_of` is a digest of its data and of the code that draws."""

    name: str
    make: Callable[[], Figure | None]
    made_of: str

    def draw(self) -> Figure | None:
        with house_style():
            return self.make()


def draw_figures(tables: Tables) -> Iterator[tuple[str, Figure]]:
    """Each figure with its name, those of one dataset and model after another.

    Where there are several of these, names end in them; the part before the first hyphen is one of NAMES.
    """
    for planned in _plan(tables):
        if figure := planned.draw():
            yield planned.name, figure


def write_figures(folder: Path, tables: Tables, show: Callable[[str], None] = lambda line: None) -> list[str]:
    """Writes each figure whose data have changed as NAME.png and NAME.svg, and returns the names of all.

    Args:
        folder: where to; it is made if need be.
        tables: what to draw.
        show: called with a line on each figure before it is drawn.
    """
    names, plan = [], _plan(tables)
    for number, planned in enumerate(plan, 1):
        svg, png = (folder / f"{planned.name}.{kind}" for kind in ("svg", "png"))
        if not all(planned.made_of.encode() in (read_if_there(file) or b"") for file in (svg, png)):
            show(f"figure {number} of {len(plan)}: {planned.name}")
            figure = planned.draw()
            if figure is None:
                continue
            write_atomically(svg, to_svg(planned.name, figure, planned.made_of))
            write_atomically(png, to_png(figure, planned.made_of))
        names.append(planned.name)
    return names


def remove_others(folder: Path, names: Sequence[str]) -> None:
    """Removes the figures that are not among `names`, of a folder that holds those of one experiment."""
    for file in folder.glob("*.*"):
        ours = file.name.partition(".")[0].partition("-")[0] in NAMES and file.suffix in (".png", ".svg")
        if ours and file.stem not in names:
            remove(file)


def to_svg(name: str, figure: Figure, made_of: str = "") -> bytes:
    """The figure without a background, text as text; equal bytes for equal figures and versions of Matplotlib.

    From then on all stays in its place, as seeking it again for another format takes time.
    """
    with house_style(name):
        if engine := figure.get_layout_engine():
            FigureCanvasSVG(figure).figure.dpi = 72  # words are as wide as in the file
            engine.execute(figure)
            figure.set_layout_engine(None)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = re.sub(r"\n +", "\n", file.getvalue().decode())
    return (re.sub(r"<[^>]*>", _shorten, svg) + f"<!-- {made_of} -->\n" * bool(made_of)).encode()


def to_png(figure: Figure, made_of: str = "") -> bytes:
    """The figure on white."""
    with house_style():
        file = io.BytesIO()
        metadata = {"Software": None, "Comment": made_of or None}
        figure.savefig(file, format="png", dpi=_DPI, facecolor="white", metadata=metadata)
    return file.getvalue()


def _shorten(tag: re.Match[str]) -> str:
    """An element's start in fewer characters: hundredths of a point, no rotation by nothing, and ids that nothing
    names; what is of an arm says so."""
    still = re.sub(r' transform="rotate\(-0 [^"]*"| id="[\w.]+_\d+"', "", tag[0])
    return re.sub(r"(\d\.\d\d)\d+", r"\1", still).replace(f'id="{OF_ARM}', 'data-arm="')


def _plan(tables: Tables) -> list[_Planned]:
    """All figures that there may be."""
    plan = []
    for (dataset, model), suffix in _suffixes(tables.runs).items():
        runs = [row for row in tables.runs if (row["dataset"], row["model"]) == (dataset, model)]
        where = f"{shown(model)} on {shown(dataset)}"
        for name, (make, data) in _figures(runs, tables, where).items():
            plan.append(_Planned(name + suffix, make, _digest(_digest_code(), name + suffix, where, runs, data)))
    return plan


def _figures(
    runs: Sequence[Row], tables: Tables, where: str
) -> dict[str, tuple[Callable[[], Figure | None], Sequence[Mapping[str, Any]]]]:
    """What draws each figure of one dataset and model, and the rows that it needs beside those of the runs."""
    arms, run_ids = gather_arms(runs), {row["run_id"] for row in runs}
    arm_ids = {arm.arm_id for arm in arms}
    compared = [each for each in tables.comparisons if {each.arm.arm_id, each.baseline.arm_id} <= arm_ids]
    reliability = [row for row in tables.reliability if row["arm_id"] in arm_ids]
    ensemble = [row for row in tables.ensemble if row["arm_id"] in arm_ids]
    corruptions = [row for row in tables.corruptions if row["arm_id"] in arm_ids]
    history = [row for row in tables.history if row["run_id"] in run_ids]
    figures: dict[str, tuple[Callable[[], Figure | None], Sequence[Mapping[str, Any]]]] = {}
    for metric in METRICS:
        of_metric = [each for each in compared if each.metric == metric.column]
        figures[metric.column] = partial(draw_metric, arms, metric, where), ()
        draw = partial(draw_differences, arms, of_metric, metric, where)
        figures[f"{metric.column}_differences"] = draw, [each.to_row() for each in of_metric]
    figures["reliability"] = partial(draw_reliability, arms, reliability, where), reliability
    figures["curves"] = partial(draw_curves, arms, history, where), history
    figures["cost"] = partial(draw_cost, arms, where), ()
    figures["calibration"] = partial(draw_calibration, arms, where), ()
    figures["ensemble"] = partial(draw_ensembles, arms, ensemble, where), ensemble
    figures["corruptions"] = partial(draw_corruptions, arms, corruptions, where), corruptions
    figures["sharpness"] = partial(draw_sharpness, arms, where), ()
    return figures


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


@cache
def _digest_code() -> str:
    """Of what draws: the whole of regbench, as a figure's numbers come from many rooms of it, and Matplotlib."""
    files = sorted(Path(__file__).parents[2].rglob("*.py"))
    return _digest(mpl.__version__, [file.read_text("utf-8") for file in files])


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
