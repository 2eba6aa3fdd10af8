"""The comparison as it is printed, in whatever format: arms, what stands in their cells, and the notes below."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.config.identity import ADDED_LATER
from bench.errors import UsageError
from bench.evidence.comparison import MAIN_METRICS, compare
from bench.evidence.pairing import Arm, check_baseline, name_differences
from bench.measure import QUALITIES
from bench.measure.quantities import COSTS, Quantity
from bench.record.experiment import Experiment
from bench.record.tables import Row, shorten_settings, summarise
from bench.report.cells import Cell, Cost, find_supported, make_cell, make_mark, relative_cost
from bench.report.notes import Compared, describe_times, make_notes
from bench.status import Status

_COMPARED = ("difference", "p_holm")  # of a Comparison


@dataclass(frozen=True)
class Line:
    """An arm: its settings as short as they tell it from arms that share its words, its runs, and its cells."""

    regularizer: str
    optimizer: str
    settings: list[str]
    seeds: str
    cells: list[Cell]
    arm: dict[str, Any]  # its row of summary.csv, with its baseline, and each metric's difference to that and its p
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True)
class Layout:
    """A table of one dataset and model, whose arms compare."""

    exp: str
    title: str
    protocol: str
    quantities: list[Quantity]
    lines: list[Line]
    notes: list[str]

    @property
    def header(self) -> list[str]:
        """The titles of the columns."""
        return ["regularizer", "optimizer", "seeds", *(quantity.title for quantity in self.quantities), "evals", "time"]


def parse_metrics(names: Sequence[str]) -> list[Quantity]:
    """The columns of runs.csv that are meant; `accuracy` is short for `test_accuracy`.

    Raises:
        UsageError: there is no such column.
    """
    found = []
    for name in names:
        quantity = QUALITIES.get(name) or QUALITIES.get(f"test_{name}") or COSTS.get(name)
        if quantity is None:
            raise UsageError(f"there is no metric {name}.\nThere are: {', '.join([*QUALITIES, *COSTS])}")
        found.append(quantity)
    return found


def make_tables(
    experiment: Experiment,
    metrics: Sequence[str] = MAIN_METRICS,
    baseline: str = "none",
    sort: str = "name",
    test_set: Sequence[Row] = (),
) -> list[Layout]:
    """A table for each dataset and model.

    Args:
        experiment: whose rows.
        metrics: the columns to show, as `parse_metrics` takes them.
        baseline: as `compare` takes it.
        sort: `name`, or a metric: best first.
        test_set: rows of test_set.csv, which say what is beyond the noise of test images.

    Raises:
        UsageError: an unknown metric or baseline.
    """
    quantities = parse_metrics(metrics)
    check_baseline(experiment.arms, baseline)
    key = None if sort == "name" else parse_metrics([sort])[0]
    layouts = []
    for (dataset, model), here in experiment.places.items():
        columns = list(dict.fromkeys([*(quantity.column for quantity in quantities), *MAIN_METRICS]))
        compared = _compare(here, columns, baseline, images=bool(test_set))
        lines = _make_lines(here.rows, quantities, compared, find_supported(test_set))
        if key:
            lines.sort(key=lambda line: _rank(line, key))
        title, protocol = f"{here.name}: {model} on {dataset}", describe_protocol(here.rows, here.settings)
        notes = make_notes(compared, quantities, [cell for line in lines for cell in line.cells[:-2]])
        if any(each.seeds for each in compared.found):
            notes += describe_times([line.cost for line in lines], baseline)
        layouts.append(Layout(here.name, title, protocol, quantities, lines, notes))
    return layouts


def describe_protocol(rows: Sequence[Row], settings: Mapping[str, Any]) -> str:
    """How the numbers came about, on a line."""

    def span(column: str, noun: str, rows: Sequence[Row] = rows) -> str:
        values = sorted({int(float(row[column])) for row in rows if row.get(column)})
        if not values:
            return ""
        ends = " to ".join(f"{value:,}" for value in dict.fromkeys((values[0], values[-1])))
        return f"{ends} {noun}{'s' * (values != [1])}"

    arms = {row["arm_id"]: settings.get(row["arm_id"], {}) for row in rows}
    budgets = sorted({arm.get("train.gradient_evaluations") for arm in arms.values()} - {None})
    by_budget = " or ".join(f"{each:,}" for each in budgets) + " gradient evaluations" * bool(budgets)
    by_epochs = [row for row in rows if arms[row["arm_id"]].get("train.gradient_evaluations") is None]
    budget = " or ".join(filter(None, [by_budget, span("epochs", "epoch", by_epochs)]))
    seeds = len({row["seed"] for row in rows})
    parts = [f"{seeds} seed{'s' * (seeds != 1)}", budget, span("train_size", "training image"), span("batch_size", "")]
    parts[-1] = f"batches of {parts[-1].strip(' s')}" if parts[-1] else ""
    parts += [_describe_option(key, arms.values()) for key in ("dataset.imbalance", "dataset.label_noise")]
    return "test split, read once after the last epoch; " + ", ".join(filter(None, parts))


def _describe_option(key: str, arms: Iterable[Mapping[str, Any]]) -> str:
    """What arms have of an option of the data, as `label noise 0 or 0.4`; empty where none uses it."""
    values = sorted({arm.get(key, ADDED_LATER[key]) for arm in arms})
    noun = key.partition(".")[2].replace("_", " ")
    return f"{noun} {' or '.join(map(str, values))}" if values not in ([], [ADDED_LATER[key]]) else ""


def _compare(experiment: Experiment, columns: Sequence[str], baseline: str, *, images: bool) -> Compared:
    """The comparisons with the baseline of what arms have in these columns."""
    arms = experiment.arms
    here = baseline == "none" or any(baseline in (arm.arm_id, arm.words["regularizer"]) for arm in arms.values())
    found = compare(arms, baseline, columns) if here else []
    found = [each for each in found if baseline in arms or not each.is_of_optimizers]
    words = [arm.words for arm in arms.values()]
    shorts = dict(zip(arms, shorten_settings(words, _name_differences(arms, baseline)), strict=True))
    return Compared(experiment.report_command, arms, baseline, found, shorts, images)


def _make_lines(
    rows: Sequence[Row],
    quantities: Sequence[Quantity],
    compared: Compared,
    supported: set[tuple[str, str, str]],
) -> list[Line]:
    by_arm = {(each.arm.arm_id, each.metric): each for each in compared.found}
    baselines = {each.arm.arm_id: each.baseline.arm_id for each in compared.found}
    against = {baseline: baseline for baseline in baselines.values()} | baselines
    runs: dict[str, list[Row]] = {}
    for row in rows:
        runs.setdefault(row["arm_id"], []).append(row)
    columns = dict.fromkeys([*(quantity.column for quantity in quantities), *(metric for _, metric in by_arm)])
    lines = []
    for arm in summarise(rows):
        identifier = arm["arm_id"]
        cells: list[Cell] = []
        tested: list[int] = []
        for quantity in quantities:
            found = by_arm.get((identifier, quantity.column))
            mark = make_mark(found, beyond_images=found.key in supported) if found else ""
            cells.append(make_cell(arm, quantity, mark))
            tested += [found.seeds] if found else []
        cells.append(make_cell(arm, COSTS["gradient_evaluations"]))
        cost = relative_cost(runs[identifier], runs.get(against.get(identifier, ""), []))
        cells.append(cost.cell)
        of_columns = ((column, by_arm.get((identifier, column))) for column in columns)
        differences = {f"{column}_{key}": getattr(each, key, None) for column, each in of_columns for key in _COMPARED}
        differences["baseline"] = baselines.get(identifier)
        short, seeds = list(compared.settings[identifier]), _count_seeds(arm, tested)
        lines.append(Line(arm["regularizer"], arm["optimizer"], short, seeds, cells, arm | differences, cost))
    return lines


def _count_seeds(arm: Mapping[str, Any], tested: Sequence[int]) -> str:
    """How many runs the means are over, how many of the others there are, and over how many the tests are, if fewer."""
    parts = [f"{arm[status]} {status}" for status in (Status.FAILED, Status.DIVERGED) if arm[status]]
    fewest = min(tested, default=arm["runs"])
    parts += [f"{fewest} tested"] * (fewest < arm["runs"])
    return f"{arm['runs']}" + f" ({', '.join(parts)})" * bool(parts)


def _name_differences(arms: Mapping[str, Arm], baseline: str) -> dict[str, list[str]]:
    """By arm_id what an arm differs in from the arm that is the baseline, and of that one what any differs in.

    Where the baseline is no arm, it is what each arm has of its own.
    """
    if baseline not in arms:
        return {arm.arm_id: arm.show_tuned() for arm in arms.values()}
    other = arms[baseline]
    own = dict.fromkeys(setting for arm in arms.values() for setting in name_differences(other, arm))
    return {arm.arm_id: name_differences(arm, other) for arm in arms.values()} | {baseline: list(own)}


def _rank(line: Line, key: Quantity) -> tuple[bool, float]:
    """Best first, arms without a number last."""
    mean = line.arm.get(f"{key.column}_mean")
    signs: dict[str, Callable[[float], float]] = {"higher": lambda value: -value, "nearer 0": abs}
    return mean is None, 0.0 if mean is None else signs.get(key.better, float)(mean)
