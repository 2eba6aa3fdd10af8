"""results/<exp>/report.html: one file that loads nothing from outside: question, protocol, tables, figures and runs."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.config import AXES, plugins
from bench.config.identity import data_id, shorten_hash
from bench.disk.files import write_atomically
from bench.disk.lock import wait_for
from bench.evidence.comparison import MAIN_METRICS, interactions
from bench.evidence.margins import describe_margins, read_margins
from bench.evidence.pairing import Arm, read_arms
from bench.evidence.stats import FEWEST_SEEDS
from bench.measure import QUALITIES, SCORES
from bench.measure.quantities import format_number
from bench.record import tables
from bench.record.data import describe_doubles, describe_dropping, read_data
from bench.record.tables import Row
from bench.report.cells import describe_p, find_supported, make_mark, print_with_half
from bench.report.classes import Classes, read_classes
from bench.report.figure.style import INK
from bench.report.formats import Grid, html_table, make_grid
from bench.report.layout import Layout, is_against_sgd, make_tables
from bench.report.robust import make_robust
from bench.version import __version__

# The tables of means, each with a heading of its own; one is as wide as a laptop's screen.
_MEANS = {
    "Results": ("test_accuracy", "test_nll", "test_ece", "test_ece_scaled", "test_confidence_gap", "accuracy_gap"),
    "Calibration": (
        *("test_ece", "test_ece_debiased", "test_ece_equal_mass", "test_ece_classwise", "test_mce"),
        *("temperature", "test_nll_scaled", "test_ece_scaled"),
    ),
    "Beyond accuracy": ("test_top5_accuracy", "test_brier", "test_entropy", "test_aurc", "nll_gap"),
    "Classes": ("test_balanced_accuracy", "test_macro_f1", "test_worst_class_accuracy"),
}
_PLACED = {column for columns in _MEANS.values() for column in columns}
_MEANS["Beyond accuracy"] += tuple(column for column in SCORES if column in QUALITIES and column not in _PLACED)
_OF_A_RUN = ("test_accuracy", "test_nll", "test_ece", "temperature")


def write_page(results: Path, exp: str, rows: Sequence[Row], figures: Iterable[str]) -> None:
    """Writes the page.

    Args:
        results: the folder of results.
        exp: whose tables are up to date.
        rows: of its runs.csv.
        figures: the names of its figures, which lie in the folder `figures`.
    """
    folder = results / exp
    settings = tables.read_settings(results, exp)
    # What tells an arm: its dataset and model, too, where there are several.
    words = [axis for axis in AXES[:2] if len({row[axis] for row in rows}) > 1] + list(AXES[2:])
    arms = read_arms(rows, settings)
    shared = _shared(settings)
    classes = read_classes(results, exp, rows, settings)
    environment = Environment(loader=PackageLoader("bench.report", "."), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("page.html").render(
        html_table=html_table,
        shorten_hash=shorten_hash,
        margins=describe_margins(read_margins()),
        exp=exp,
        about=_about(exp),
        arm_words=words,
        words={axis: list(dict.fromkeys(row[axis] for row in rows)) for axis in AXES},
        commands=tables.read_commands(results, exp),
        data=_describe_data(results, list(settings.values())),
        counts=Counter(row["status"] for row in rows),
        places=_mean_grids(exp, rows, settings, classes, tables.read_csv(folder / "test_set.csv")),
        classes=classes,
        differences=_difference_grids(folder, arms, words),
        interactions=_interaction_grid(interactions(arms), words),
        at_bound=sum(row["temperature_at_bound"] == "True" for row in rows),
        figures={name: _inline(folder / "figures" / f"{name}.svg", name) for name in figures},
        runs=_run_grid(rows, words),
        shared=shared,
        arms=[(arm, _own(settings[i], shared)) for i, arm in arms.items() if i in settings],
        papers=_find_papers(rows),
        versions={
            "regbench, of this page": [__version__],
            **{key: sorted({row[key] for row in rows}) for key in ("torch", "hardware", "device", "precision")},
            "protocol version": sorted({row["protocol_version"] for row in rows}),
        },
    )
    with wait_for(folder):
        write_atomically(folder / "report.html", page)


def _find_papers(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The papers of the methods in the rows, and where each is, if its file says that."""
    used = {("regularizer", part) for row in rows for part in row["regularizer"].split("+")}
    used |= {("optimizer", row["optimizer"]) for row in rows}
    files = [(axis, file) for axis in ("regularizer", "optimizer") for file in plugins.config_files(axis)]
    named = [source for axis, file in files if (axis, file.stem) in used for source in plugins.read_sources(file)]
    papers = [source.partition(", https://") for source in sorted({*named})]
    return [(text, f"https://{link}" if link else "") for text, _, link in papers]


def _mean_grids(
    exp: str,
    rows: Sequence[Row],
    settings: Mapping[str, Any],
    classes: Mapping[str, Classes],
    test_set: Sequence[Row],
) -> list[tuple[Layout, list[tuple[str, Grid]], Layout]]:
    """For each dataset and model its layout, the means under their headings, and what single seeds do not ruin."""
    metrics = list(dict.fromkeys(metric for each in _MEANS.values() for metric in each))
    places = []
    for layout in make_tables(exp, rows, settings, metrics, test_set=test_set):
        whole = make_grid(layout)
        words, costs = [0, 1, 2], [len(whole.header) - 2, len(whole.header) - 1]
        shown = {heading: [3 + metrics.index(metric) for metric in each] for heading, each in _MEANS.items()}
        shown["Results"] += costs
        grids = {heading: whole.columns([*words, *numbers]) for heading, numbers in shown.items()}
        of_lines = [classes.get(line.arm["arm_id"]) for line in layout.lines]
        grids["Classes"] = _name_classes(grids["Classes"], of_lines)
        main = replace(layout, quantities=[QUALITIES[metric] for metric in MAIN_METRICS])
        robust = make_robust(main, rows, settings)
        cells = make_grid(robust)
        grids["Robust to single seeds"] = cells.columns(range(len(cells.header) - 2))  # its costs stand above
        places.append((layout, [*grids.items()], robust))
    return places


def _name_classes(grid: Grid, classes: Sequence[Classes | None]) -> Grid:
    """The grid with two columns that name classes, where logits say which."""
    if not any(classes):
        return grid
    told = [((each.worst, None), (each.most_confused, None)) if each else (("", None), ("", None)) for each in classes]
    rows = [[*row, *names] for row, names in zip(grid.rows, told, strict=True)]
    return Grid([*grid.header, "worst on average", "most confused"], rows)


def _describe_data(results: Path, arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each dataset of which it is on record what is in training and in test."""
    of_data: dict[str, list[Mapping[str, Any]]] = {}
    for arm in arms:
        of_data.setdefault(data_id(arm), []).append(arm)
    sentences = []
    for identifier, [arm, *others] in of_data.items():
        if record := read_data(results, identifier):
            dropped = [bool(each.get("dataset.drop_duplicates")) for each in (arm, *others)]
            found = describe_doubles(record) or ["no test image is in training, and none is in training twice"]
            told = [*found, describe_dropping(record, dropped)]
            sentences.append(f"{arm['dataset']}, pixel for pixel: {'; '.join(filter(None, told))}.")
    return sentences


def _about(exp: str) -> str:
    """What the experiment's file says of itself; empty where it is not here."""
    file = next((file for file in plugins.config_files("exp") if file.stem == exp), None)
    return plugins.first_comment(file) if file else ""


def _inline(file: Path, name: str) -> Markup:
    """A figure as an element of the page: in the page's ink, its ids its own."""
    svg = file.read_text("utf-8")
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return Markup(svg)  # Matplotlib escapes what it writes


def _difference_grids(folder: Path, arms: Mapping[str, Arm], words: Sequence[str]) -> dict[str, Grid]:
    """The rows of comparison.csv, with the intervals of test_set.csv: against `none`, and against SGD."""
    from_test = {(r["arm_id"], r["baseline"], r["metric"]): r for r in tables.read_csv(folder / "test_set.csv")}
    grids: dict[str, list[list[tuple[str, float | None]]]] = {"none": [], "sgd": []}
    for row in tables.read_csv(folder / "comparison.csv"):
        if row["metric"] in MAIN_METRICS and {row["arm_id"], row["baseline"]} <= arms.keys():
            test = from_test.get((row["arm_id"], row["baseline"], row["metric"]))
            grids["sgd" if is_against_sgd(arms, row) else "none"].append(_difference(row, test, words))
    header = [
        *(*words, "metric", "seeds", "difference", "95 % over seeds", "95 % over test images"),
        *("p", "p (Holm)", "improved", "verdict", ""),
    ]
    return {key: Grid(header, rows) for key, rows in grids.items()}


def _difference(row: Row, test: Row | None, words: Sequence[str]) -> list[tuple[str, float | None]]:
    numbers = {
        key: float(row[key] or "nan") for key in ("seeds", "difference", "low", "high", "p", "p_holm", "improved")
    }
    quantity = QUALITIES[row["metric"]]
    if numbers["seeds"] < FEWEST_SEEDS:
        numbers |= {"low": float("nan"), "high": float("nan")}
    known = {key: None if value != value else value for key, value in numbers.items()}
    of_test = {key: float(test[key]) if test else float("nan") for key in ("difference", "low", "high")}
    difference, seeds_interval = _signed(row, numbers)
    supported = bool(test and find_supported([test]))
    mark = make_mark({"metric": row["metric"], **known}, beyond_images=supported)
    improved = "" if known["improved"] is None else f"{100 * numbers['improved']:.0f} %"
    return [
        *_name(row, words),
        (quantity.title, None),
        (row["seeds"], numbers["seeds"]),
        (f"{difference}{mark}", numbers["difference"] * quantity.factor),
        (seeds_interval, numbers["low"]),
        (_signed(row, of_test)[1], of_test["low"]),
        (describe_p(known["p"]), numbers["p"]),
        (describe_p(known["p_holm"]), numbers["p_holm"]),
        (improved, numbers["improved"]),
        (_describe_verdict(row, numbers), None),
        (row["note"], None),
    ]


def _describe_verdict(row: Row, numbers: Mapping[str, float]) -> str:
    """The verdict; where no difference is shown, how large it is at most, by the interval over seeds."""
    if row["verdict"] != "unknown" or math.isnan(numbers["low"]) or math.isnan(numbers["p_holm"]):
        return row["verdict"]
    quantity = QUALITIES[row["metric"]]
    most = quantity.factor * max(abs(numbers["low"]), abs(numbers["high"]))
    return f"unknown (≤\N{NO-BREAK SPACE}{format_number(most, quantity.digits)})"


def _name(row: Mapping[str, str], words: Sequence[str]) -> list[tuple[str, float | None]]:
    """An arm's words, its settings beside its regularizer."""
    named = {**row, "regularizer": " ".join([row["regularizer"], *map(shorten_hash, row["settings"].split())])}
    return [(named[word], None) for word in words]


def _signed(row: Mapping[str, str], numbers: Mapping[str, float]) -> tuple[str, str]:
    """A difference and its interval with the decimals that the latter supports; empty where they are not known."""
    quantity, (difference, low, high) = QUALITIES[row["metric"]], (numbers[k] for k in ("difference", "low", "high"))
    if difference != difference:
        return "", ""
    half = None if low != low else (high - low) / 2
    text, precision = print_with_half(quantity, difference, half)
    digits = 0 if "e" in precision else len(precision.partition(".")[2])
    ends = "" if half is None else " to ".join(format_number(quantity.factor * end, digits, "+") for end in (low, high))
    return text if text.startswith("-") else f"+{text}", ends


def _interaction_grid(rows: Sequence[Mapping[str, Any]], words: Sequence[str]) -> Grid:
    cells: list[list[tuple[str, float | None]]] = []
    for row in rows:
        if row["metric"] in MAIN_METRICS:
            ends = ("difference", "low", "high") if row["seeds"] >= FEWEST_SEEDS else ("difference",)
            numbers = {"low": float("nan"), "high": float("nan")}
            numbers |= {key: float("nan") if row[key] is None else row[key] for key in ends}
            text, interval = _signed(row, numbers)
            metric = (QUALITIES[row["metric"]].title, None)
            told = [(str(row["seeds"]), float(row["seeds"])), (text, numbers["difference"]), (interval, numbers["low"])]
            cells.append(
                [
                    *_name(row, words),
                    metric,
                    *told,
                    (describe_p(row["p"]), row["p"] or float("nan")),
                    (row["note"], None),
                ]
            )
    header = [*words, "metric", "seeds", "interaction", "95 % over seeds", "p", ""]
    return Grid(header, cells)


def _run_grid(rows: Sequence[Row], words: Sequence[str]) -> Grid:
    metrics = (QUALITIES[key].title for key in _OF_A_RUN)
    header = ["run", *words, "seed", "status", *metrics, "seconds", "message"]
    cells = []
    for row in rows:
        numbers: list[tuple[str, float | None]] = []
        for key in _OF_A_RUN:
            quantity = QUALITIES[key]
            value = float(row[key] or "nan") * quantity.factor
            numbers.append(("" if value != value else format_number(value, quantity.digits + 1), value))
        seconds = float(row["train_seconds"] or "nan")
        numbers.append(("" if seconds != seconds else f"{seconds:.1f}", seconds))
        run = [(row["run_id"], None), *_name(row, words), (row["seed"], float(row["seed"])), (row["status"], None)]
        cells.append([*run, *numbers, (row["message"].partition("\n")[0], None)])
    return Grid(header, cells)


def _shared(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that all arms have in common."""
    each = list(settings.values())
    return {k: v for k, v in (each[0] if each else {}).items() if all(k in arm and arm[k] == v for arm in each)}


def _own(arm: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arm.items() if key not in shared and key not in AXES}
