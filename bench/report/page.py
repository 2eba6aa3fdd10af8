"""results/<exp>/report.html: one file that loads nothing from outside: findings, figures, tables, protocol, runs."""

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
from bench.evidence.comparison import MAIN_METRICS, Comparison, interactions
from bench.evidence.margins import describe_margins, read_margins
from bench.measure import OF_SOME_RUNS, QUALITIES, SCORES
from bench.measure.probed import PROBED
from bench.measure.quantities import format_number
from bench.record.data import describe_doubles, describe_dropping, read_data
from bench.record.experiment import Experiment
from bench.record.tables import Row
from bench.report.cells import find_supported
from bench.report.classes import Classes, read_classes
from bench.report.differences import difference_grid, interaction_grid, name_arm
from bench.report.ensembles import ensemble_grid
from bench.report.figure.style import INK
from bench.report.findings import describe_findings
from bench.report.formats import Grid, html_table, make_grid
from bench.report.layout import Layout, make_tables
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
    "Classes": ("test_balanced_accuracy", "test_macro_f1", "test_worst_class_accuracy", "test_minority_accuracy"),
}
_PLACED = {column for columns in (*_MEANS.values(), *PROBED.values()) for column in columns}
_FURTHER = [column for column in (*SCORES, *OF_SOME_RUNS) if column in QUALITIES and column not in _PLACED]
_MEANS["Beyond accuracy"] += tuple(_FURTHER)
_MEANS |= {name.capitalize(): tuple(columns) for name, columns in PROBED.items()}
_OF_PROBES = ("corruptions", "sharpness")  # figures that have a section of their own
_OF_A_RUN = ("test_accuracy", "test_nll", "test_ece", "temperature")


def write_page(experiment: Experiment, figures: Iterable[str]) -> None:
    """Writes the page.

    Args:
        experiment: whose tables are up to date.
        figures: the names of its figures, which lie in the folder `figures`.
    """
    exp, rows, settings, folder = experiment.name, experiment.rows, experiment.settings, experiment.folder
    # What names an arm: its dataset and model, too, where there are several.
    words = [axis for axis in AXES[:2] if len({row[axis] for row in rows}) > 1] + list(AXES[2:])
    main = [each for each in experiment.comparisons if each.metric in MAIN_METRICS]
    compared = {"none": [each for each in main if not each.is_of_optimizers]}
    compared["sgd"] = [each for each in main if each.is_of_optimizers]
    test_set, ensembles = experiment.read("test_set"), experiment.read("ensemble")
    pictures = {name: inline(folder / "figures" / f"{name}.svg", name) for name in figures}
    leading = _choose_leading(pictures)
    probed = {kind: {n: svg for n, svg in pictures.items() if n.partition("-")[0] == kind} for kind in _OF_PROBES}
    placed = {*leading, *(name for each in probed.values() for name in each)}
    shared = _shared(settings)
    classes = read_classes(experiment)
    environment = Environment(loader=PackageLoader("bench.report", "."), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("page.html").render(
        html_table=html_table,
        shorten_hash=shorten_hash,
        margins=describe_margins(read_margins()),
        exp=exp,
        about=_about(exp),
        arm_words=words,
        words={axis: list(dict.fromkeys(row[axis] for row in rows)) for axis in AXES},
        commands=experiment.commands,
        data=_describe_data(experiment.results, list(settings.values())),
        counts=Counter(row["status"] for row in rows),
        places=_mean_grids(experiment, classes, test_set),
        findings=_find(experiment, compared["none"], test_set),
        classes=classes,
        tuned=", ".join(sorted({key for arm in experiment.arms.values() for key in arm.tuned})),
        differences={key: difference_grid(each, test_set, words) for key, each in compared.items()},
        interactions=interaction_grid(interactions(experiment.arms), words),
        ensembles=ensemble_grid([row for row in ensembles if row["arm_id"] in experiment.arms], words),
        at_bound=sum(row["temperature_at_bound"] == "True" for row in rows),
        leading={name: pictures[name] for name in leading},
        probed=probed,
        figures={name: svg for name, svg in pictures.items() if name not in placed},
        runs=_run_grid(rows, words),
        shared=shared,
        arms=[(arm, _own(settings[i], shared)) for i, arm in experiment.arms.items() if i in settings],
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
    return [plugins.split_source(source) for source in sorted({*named})]


def _choose_leading(figures: Iterable[str]) -> list[str]:
    """The names of the figures that come first: differences of the main metrics, or means where there are none."""
    by_kind = [(name.partition("-")[0], name) for name in figures]
    differences = [name for kind, name in by_kind if kind.endswith("_differences")]
    return differences or [name for kind, name in by_kind if kind in MAIN_METRICS]


def _find(
    experiment: Experiment, compared: Sequence[Comparison], test_set: Sequence[Row]
) -> list[tuple[str, list[str]]]:
    """Of each dataset and model its name, empty where there is one, and a sentence for each metric."""
    places, supported = experiment.places, find_supported(test_set)
    found = []
    for dataset, model in places:
        here = [each for each in compared if each.arm.place == (dataset, model)]
        name = f"{model} on {dataset}" if len(places) > 1 else ""
        found.append((name, describe_findings(here, supported)))
    return found


def _mean_grids(
    experiment: Experiment, classes: Mapping[str, Classes], test_set: Sequence[Row]
) -> list[tuple[Layout, list[tuple[str, Grid]], Layout]]:
    """For each dataset and model its layout, the means under their headings, and what single seeds do not ruin."""
    lacking = {metric for metric in OF_SOME_RUNS if not any(row.get(metric) for row in experiment.rows)}
    means = {heading: [metric for metric in each if metric not in lacking] for heading, each in _MEANS.items()}
    means = {heading: each for heading, each in means.items() if each}
    metrics = list(dict.fromkeys(metric for each in means.values() for metric in each))
    places = []
    for layout in make_tables(experiment, metrics, test_set=test_set):
        whole = make_grid(layout)
        whole = replace(whole, arms=[line.arm["arm_id"] for line in layout.lines])
        words, costs = [0, 1, 2], [len(whole.header) - 2, len(whole.header) - 1]
        shown = {heading: [3 + metrics.index(metric) for metric in each] for heading, each in means.items()}
        shown["Results"] += costs
        grids = {heading: whole.columns([*words, *numbers]) for heading, numbers in shown.items()}
        of_lines = [classes.get(line.arm["arm_id"]) for line in layout.lines]
        grids["Classes"] = _name_classes(grids["Classes"], of_lines)
        main = replace(layout, quantities=[QUALITIES[metric] for metric in MAIN_METRICS])
        robust = make_robust(main, experiment.arms)
        cells = replace(make_grid(robust), arms=[line.arm["arm_id"] for line in robust.lines])
        grids["Robust to single seeds"] = cells.columns(range(len(cells.header) - 2))  # its costs stand above
        places.append((layout, [*grids.items()], robust))
    return places


def _name_classes(grid: Grid, classes: Sequence[Classes | None]) -> Grid:
    """The grid with two columns that name classes, where logits say which."""
    if not any(classes):
        return grid
    pairs = [(each.worst, each.most_confused) if each else ("", "") for each in classes]
    names_of = [((worst, None), (confused, None)) for worst, confused in pairs]
    rows = [[*row, *names] for row, names in zip(grid.rows, names_of, strict=True)]
    return Grid([*grid.header, "worst on average", "most confused"], rows, grid.arms)


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
            parts = [*found, describe_dropping(record, dropped)]
            sentences.append(f"{arm['dataset']}, pixel for pixel: {'; '.join(filter(None, parts))}.")
    return sentences


def _about(exp: str) -> str:
    """What the experiment's file says of itself; empty where it is not here."""
    file = next((file for file in plugins.config_files("exp") if file.stem == exp), None)
    return plugins.first_comment(file) if file else ""


def inline(file: Path, name: str) -> Markup:
    """A figure as an element of the page: in the page's ink, its ids its own."""
    svg = file.read_text("utf-8")
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return Markup(svg)  # Matplotlib escapes what it writes


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
        run = [(row["run_id"], None), *name_arm(row, words), (row["seed"], float(row["seed"])), (row["status"], None)]
        cells.append([*run, *numbers, (row["message"].partition("\n")[0], None)])
    return Grid(header, cells, [row["arm_id"] for row in rows])


def _shared(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that all arms have in common."""
    each = list(settings.values())
    return {k: v for k, v in (each[0] if each else {}).items() if all(k in arm and arm[k] == v for arm in each)}


def _own(arm: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arm.items() if key not in shared and key not in AXES}
