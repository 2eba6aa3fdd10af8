"""The page's tables of differences: arms against their baseline, and stacks beyond the sum of their parts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.config.identity import shorten_hash
from bench.evidence.comparison import MAIN_METRICS
from bench.evidence.pairing import Arm
from bench.evidence.stats import FEWEST_SEEDS
from bench.measure import QUALITIES
from bench.measure.quantities import format_number
from bench.record.tables import Row
from bench.report.cells import describe_p, find_supported, make_mark, print_with_half
from bench.report.formats import Grid
from bench.report.layout import is_against_sgd


def split_compared(rows: Sequence[Row], arms: Mapping[str, Arm]) -> dict[str, list[Row]]:
    """The rows of comparison.csv on the main metrics and on arms that there are: against `none`, and against SGD."""
    split: dict[str, list[Row]] = {"none": [], "sgd": []}
    for row in rows:
        if row["metric"] in MAIN_METRICS and {row["arm_id"], row["baseline"]} <= arms.keys():
            split["sgd" if is_against_sgd(arms, row) else "none"].append(row)
    return split


def difference_grid(rows: Sequence[Row], test_set: Sequence[Row], words: Sequence[str]) -> Grid:
    """Rows of comparison.csv, with the intervals of test_set.csv."""
    from_test = {(row["arm_id"], row["baseline"], row["metric"]): row for row in test_set}
    header = [
        *(*words, "metric", "seeds", "difference", "95 % over seeds", "95 % over test images"),
        *("p", "p (Holm)", "improved", "verdict", ""),
    ]
    cells = [_difference(row, from_test.get((row["arm_id"], row["baseline"], row["metric"])), words) for row in rows]
    return Grid(header, cells, [row["arm_id"] for row in rows])


def _difference(row: Row, test: Row | None, words: Sequence[str]) -> list[tuple[str, float | None]]:
    numbers = {
        key: float(row[key] or "nan") for key in ("seeds", "difference", "low", "high", "p", "p_holm", "improved")
    }
    quantity = QUALITIES[row["metric"]]
    if numbers["seeds"] < FEWEST_SEEDS:
        numbers |= {"low": float("nan"), "high": float("nan")}
    known = {key: None if value != value else value for key, value in numbers.items()}
    of_test = {key: float(test[key]) if test else float("nan") for key in ("difference", "low", "high")}
    difference, seeds_interval = signed(row, numbers)
    supported = bool(test and find_supported([test]))
    mark = make_mark({"metric": row["metric"], **known}, beyond_images=supported)
    improved = "" if known["improved"] is None else f"{100 * numbers['improved']:.0f} %"
    return [
        *name_arm(row, words),
        (quantity.title, None),
        (row["seeds"], numbers["seeds"]),
        (f"{difference}{mark}", numbers["difference"] * quantity.factor),
        (seeds_interval, numbers["low"]),
        (signed(row, of_test)[1], of_test["low"]),
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


def name_arm(row: Mapping[str, str], words: Sequence[str]) -> list[tuple[str, float | None]]:
    """An arm's words, its settings beside its regularizer."""
    return [(name_regularizer(row) if word == "regularizer" else row[word], None) for word in words]


def name_regularizer(row: Mapping[str, str]) -> str:
    """An arm's regularizer and the settings that tell it apart."""
    return " ".join([row["regularizer"], *map(shorten_hash, row["settings"].split())])


def signed(row: Mapping[str, str], numbers: Mapping[str, float]) -> tuple[str, str]:
    """A difference and its interval with the decimals that the latter supports; empty where they are not known."""
    quantity, (difference, low, high) = QUALITIES[row["metric"]], (numbers[k] for k in ("difference", "low", "high"))
    if difference != difference:
        return "", ""
    half = None if low != low else (high - low) / 2
    text, precision = print_with_half(quantity, difference, half)
    digits = 0 if "e" in precision else len(precision.partition(".")[2])
    ends = "" if half is None else " to ".join(format_number(quantity.factor * end, digits, "+") for end in (low, high))
    return text if text.startswith("-") else f"+{text}", ends


def interaction_grid(rows: Sequence[Mapping[str, Any]], words: Sequence[str]) -> Grid:
    """What stacks do beyond the sum of their parts, on the main metrics."""
    rows = [row for row in rows if row["metric"] in MAIN_METRICS]
    cells: list[list[tuple[str, float | None]]] = []
    for row in rows:
        ends = ("difference", "low", "high") if row["seeds"] >= FEWEST_SEEDS else ("difference",)
        numbers = {"low": float("nan"), "high": float("nan")}
        numbers |= {key: float("nan") if row[key] is None else row[key] for key in ends}
        text, interval = signed(row, numbers)
        metric = (QUALITIES[row["metric"]].title, None)
        told = [(str(row["seeds"]), float(row["seeds"])), (text, numbers["difference"]), (interval, numbers["low"])]
        p = (describe_p(row["p"]), row["p"] or float("nan"))
        cells.append([*name_arm(row, words), metric, *told, p, (row["note"], None)])
    header = [*words, "metric", "seeds", "interaction", "95 % over seeds", "p", ""]
    return Grid(header, cells, [row["arm_id"] for row in rows])
