"""The comparison as it is printed, in whatever format: what stands in each cell, and how many digits of it.

A value has as many decimals as its interval supports, by the rule of the Particle Data Group: of half the interval two
figures where the first three are below 355, else one. A mark tells that an arm differs from its baseline by more than
chance, and in which direction.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bench import UsageError
from bench.comparison import MAIN_METRICS, compare
from bench.pairing import Arm, check_baseline, name_differences, read_arms
from bench.quantities import COSTS, QUALITIES, Quantity, format_number
from bench.report.tables import Row, shorten_settings, summarise

BETTER, WORSE, OTHER = "▲", "▼", "≠"
_SIGNIFICANT = 0.05
_COMPARED = ("difference", "p_holm")  # of a row of `compare`
_EQUAL_MACHINES = ("workers", "threads", "hardware")


@dataclass(frozen=True)
class Cell:
    """A mean, half of its interval, and how it stands to the baseline; the texts are empty where it is not known."""

    mean: str = ""
    half: str = ""
    mark: str = ""
    value: float = math.nan  # to sort by

    def __str__(self) -> str:
        return f"{self.mean}{'±' * bool(self.half)}{self.half}{self.mark}"


@dataclass(frozen=True)
class Line:
    """An arm: its settings as short as they tell it from arms that share its words, its runs, and its cells."""

    regularizer: str
    optimizer: str
    settings: list[str]
    seeds: str
    cells: list[Cell]
    arm: dict[str, Any]  # its row of summary.csv, with its baseline, and each metric's difference to that and its p


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


def find_quantities(names: Sequence[str]) -> list[Quantity]:
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


def lay_out(
    exp: str,
    rows: Sequence[Row],
    settings: Mapping[str, Any],
    metrics: Sequence[str] = MAIN_METRICS,
    baseline: str = "none",
    sort: str = "name",
) -> list[Layout]:
    """A table for each dataset and model.

    Args:
        exp: the experiment's name.
        rows: of runs.csv.
        settings: what arms.json holds.
        metrics: the columns to show, as `find_quantities` takes them.
        baseline: as `compare` takes it.
        sort: `name`, or a metric: best first.

    Raises:
        UsageError: an unknown metric or baseline.
    """
    quantities = find_quantities(metrics)
    check_baseline(read_arms(rows, settings), baseline)
    key = None if sort == "name" else find_quantities([sort])[0]
    layouts = []
    for dataset, model in dict.fromkeys((row["dataset"], row["model"]) for row in rows):
        here = [row for row in rows if (row["dataset"], row["model"]) == (dataset, model)]
        lines = _make_lines(here, settings, quantities, baseline)
        if key:
            lines.sort(key=lambda line: _rank(line, key))
        title, protocol = f"{exp}: {model} on {dataset}", describe_protocol(here, settings)
        notes = _make_notes(exp, lines, read_arms(here, settings), baseline)
        layouts.append(Layout(exp, title, protocol, quantities, lines, notes))
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
    told = [f"{seeds} seed{'s' * (seeds != 1)}", budget, span("train_size", "training image"), span("batch_size", "")]
    told[-1] = f"batches of {told[-1].strip(' s')}" if told[-1] else ""
    return "test split, read once after the last epoch; " + ", ".join(filter(None, told))


def print_with_half(quantity: Quantity, mean: float, half: float | None) -> tuple[str, str]:
    """A mean and half of its interval, with the decimals that the latter supports."""
    mean, digits = mean * quantity.factor, quantity.digits
    if half is None:
        return format_number(mean, digits), ""
    half *= quantity.factor
    if 0 < half < math.inf:
        leading, exponent = f"{half:.2e}".split("e")
        figures = 1 if 3.55 <= float(leading) < 9.5 else 2
        digits = max(0, min(figures - 1 - int(exponent) - (float(leading) >= 9.5), digits + 3))
    return format_number(mean, digits), format_number(half, digits)


def describe_p(p: float | None) -> str:
    """A p value to two figures."""
    if p is None:
        return ""
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def _make_lines(
    rows: Sequence[Row], settings: Mapping[str, Any], quantities: Sequence[Quantity], baseline: str
) -> list[Line]:
    arms = read_arms(rows, settings)
    here = baseline == "none" or any(_is_called(arm, baseline) for arm in arms.values())
    columns = dict.fromkeys([*(quantity.column for quantity in quantities), *MAIN_METRICS])
    found = compare(arms, baseline, list(columns)) if here else []
    compared = {
        (row["arm_id"], row["metric"]): row for row in found if baseline in arms or not is_against_sgd(arms, row)
    }
    baselines = {row["arm_id"]: row["baseline"] for row in compared.values()}
    against = {baseline: baseline for baseline in baselines.values()} | baselines
    runs: dict[str, list[Row]] = {}
    for row in rows:
        runs.setdefault(row["arm_id"], []).append(row)
    summaries = summarise(rows)
    lines = []
    for arm, short in zip(summaries, shorten_settings(summaries, _name_differences(arms, baseline)), strict=True):
        identifier = arm["arm_id"]
        cells = [_make_cell(arm, quantity, compared.get((identifier, quantity.column))) for quantity in quantities]
        cells.append(_make_cell(arm, COSTS["gradient_evaluations"], None))
        cells.append(_relative_seconds(runs[identifier], runs.get(against.get(identifier, ""), [])))
        unfinished = [f"{arm[status]} {status}" for status in ("failed", "diverged") if arm[status]]
        seeds = f"{arm['runs']}" + f" ({', '.join(unfinished)})" * bool(unfinished)
        rows_of_arm = ((column, compared.get((identifier, column), {})) for column in columns)
        told = {f"{column}_{key}": each.get(key) for column, each in rows_of_arm for key in _COMPARED}
        told["baseline"] = baselines.get(identifier)
        lines.append(Line(arm["regularizer"], arm["optimizer"], short, seeds, cells, arm | told))
    return lines


def _name_differences(arms: Mapping[str, Arm], baseline: str) -> dict[str, list[str]]:
    """By arm_id what an arm differs in from the arm that is the baseline, and of that one what any differs in."""
    if baseline not in arms:
        return {}
    other = arms[baseline]
    own = dict.fromkeys(setting for arm in arms.values() for setting in name_differences(other, arm))
    return {arm.arm_id: name_differences(arm, other) for arm in arms.values()} | {baseline: list(own)}


def is_against_sgd(arms: Mapping[str, Arm], row: Mapping[str, Any]) -> bool:
    """Whether a row of `compare` sets an arm of another optimizer against the SGD arm."""
    return arms[row["baseline"]].words["optimizer"] != arms[row["arm_id"]].words["optimizer"]


def _make_cell(arm: Mapping[str, Any], quantity: Quantity, compared: Mapping[str, Any] | None) -> Cell:
    mean, high = arm.get(f"{quantity.column}_mean"), arm.get(f"{quantity.column}_high")
    if mean is None:
        return Cell()
    if quantity.column == "gradient_evaluations":
        return Cell(f"{mean:,.0f}", value=mean)
    text, half = print_with_half(quantity, mean, None if high is None else high - mean)
    return Cell(text, half, make_mark(compared) if compared else "", mean)


def make_mark(compared: Mapping[str, Any]) -> str:
    """Whether a row of `compare` tells of a difference beyond chance, and of which direction."""
    if compared.get("p_holm") is None or compared["p_holm"] >= _SIGNIFICANT:
        return ""
    better = {"higher": 1, "lower": -1}.get(QUALITIES[compared["metric"]].better)
    if better is None:  # the test is of the signed difference, which does not tell what is nearer 0
        return OTHER
    return BETTER if better * compared["difference"] > 0 else WORSE


def _relative_seconds(runs: Sequence[Row], baseline: Sequence[Row]) -> Cell:
    """Seconds of training as a multiple of the baseline's, over the seeds that were trained on equal machines."""
    done = {row["seed"]: row for row in baseline if row["status"] == "done"}
    pairs = [(row, done[row["seed"]]) for row in runs if row["status"] == "done" and row["seed"] in done]
    pairs = [(a, b) for a, b in pairs if all(a[key] and a[key] == b[key] for key in _EQUAL_MACHINES)]
    if not pairs:
        return Cell()
    ratio = fmean(float(a["train_seconds"]) for a, _ in pairs) / fmean(float(b["train_seconds"]) for _, b in pairs)
    return Cell(f"{ratio:.2f}x", value=ratio)


def _rank(line: Line, key: Quantity) -> tuple[bool, float]:
    """Best first, arms without a number last."""
    mean = line.arm.get(f"{key.column}_mean")
    signs: dict[str, Callable[[float], float]] = {"higher": lambda value: -value, "nearer 0": abs}
    return mean is None, 0.0 if mean is None else signs.get(key.better, float)(mean)


def _make_notes(exp: str, lines: Sequence[Line], arms: Mapping[str, Arm], baseline: str) -> list[str]:
    notes = []
    if any(cell.half for line in lines for cell in line.cells):
        notes.append("Mean over seeds ± half of the 95 % t interval.")
    if not any(line.arm[key] is not None for line in lines for key in line.arm if key.endswith("_difference")):
        return [*notes, *_explain_missing(exp, arms, baseline)]
    who = f"`{baseline}` with all else equal"
    if baseline in arms:
        (line,) = (line for line in lines if line.arm["arm_id"] == baseline)
        name = " ".join([line.regularizer, line.optimizer, *line.settings])
        who = f"`{baseline}` ({name})"
    notes.append(
        f"{BETTER} better, {WORSE} worse than {who}: paired t test over common seeds, "
        f"p < {_SIGNIFICANT} after Holm's correction."
    )
    if baseline in arms:
        notes.append("Each arm is compared with it, whatever else differs: that stands below the arms' names.")
    if any(cell.mark == OTHER for line in lines for cell in line.cells):
        notes.append(f"{OTHER} other, likewise: neither end is better.")
    alone = [line for line in lines if not line.arm["baseline"] and not _is_called(arms[line.arm["arm_id"]], baseline)]
    if alone:
        notes.append(f"Without marks, as no `{baseline}` equals them in all else: {len(alone)} of {len(lines)} arms.")
    notes.append(f"evals: gradient evaluations; time: seconds of training relative to `{baseline}`.")
    return notes


def _is_called(arm: Arm, baseline: str) -> bool:
    return baseline in (arm.arm_id, arm.words["regularizer"])


def _explain_missing(exp: str, arms: Mapping[str, Arm], baseline: str) -> list[str]:
    """Why nothing is compared."""
    finished = [arm for arm in arms.values() if _is_called(arm, baseline) and arm.values]
    others = [arm for arm in arms.values() if arm.values and not _is_called(arm, baseline)]
    if not finished:
        return [f"Nothing here has a baseline `{baseline}` with finished runs."]
    if not others:
        return []
    if not any(arm.values.keys() & other.values.keys() for arm in finished for other in others):
        return [f"Nothing is compared with `{baseline}`: no seed of its finished runs is another arm's, too."]
    return [
        f"Nothing is compared with `{baseline}`: no other arm equals it in all else. For what arms differ in besides: "
        f"regbench report {exp} --baseline {finished[0].arm_id}"
    ]
