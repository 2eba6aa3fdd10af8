"""The page's tables of differences: arms against their baseline, and stacks beyond the sum of their parts."""

import math
from collections.abc import Mapping, Sequence

from bench.config.identity import shorten_hash
from bench.evidence.comparison import MAIN_METRICS, Comparison
from bench.measure import QUALITIES
from bench.measure.quantities import COSTS, format_number
from bench.record.tables import Row
from bench.report.cells import describe_p, find_supported, make_mark, print_with_half
from bench.report.formats import Grid


def difference_grid(rows: Sequence[Comparison], test_set: Sequence[Row], words: Sequence[str]) -> Grid:
    """Comparisons, with the intervals of test_set.csv."""
    from_test = {(row["arm_id"], row["baseline"], row["metric"]): row for row in test_set}
    header = [
        *(*words, "metric", "seeds", "difference", "95 % over seeds", "95 % over test images"),
        *("p", "p (Holm)", "improved", "verdict", ""),
    ]
    cells = [_difference(each, from_test.get(each.key), words) for each in rows]
    return Grid(header, cells, [each.arm.arm_id for each in rows])


def _difference(each: Comparison, test: Row | None, words: Sequence[str]) -> list[tuple[str, float | None]]:
    difference, over_seeds = signed(each.metric, each.difference, each.interval)
    over_images, start = "", math.nan
    if test:
        of_test, start, end = (float(test[key]) for key in ("difference", "low", "high"))
        over_images = signed(each.metric, of_test, (start, end))[1]
    mark = make_mark(each, beyond_images=bool(test and find_supported([test])))
    return [
        *name_arm(each.arm.words, words),
        (QUALITIES[each.metric].title, None),
        (str(each.seeds), each.seeds),
        (f"{difference}{mark}", _sortable(each.difference, QUALITIES[each.metric].factor)),
        (over_seeds, each.interval[0] if each.interval else math.nan),
        (over_images, start),
        (describe_p(each.p), _sortable(each.p)),
        (describe_p(each.p_holm), _sortable(each.p_holm)),
        ("" if each.improved is None else f"{100 * each.improved:.0f} %", _sortable(each.improved)),
        (_describe_verdict(each), None),
        (each.note, None),
    ]


def _sortable(value: float | None, factor: float = 1) -> float:
    return math.nan if value is None else value * factor


def _describe_verdict(each: Comparison) -> str:
    """The verdict; where no difference is shown, how large it is at most, by the interval over seeds."""
    if each.verdict != "unknown" or each.interval is None or each.p_holm is None:
        return each.verdict
    quantity = QUALITIES[each.metric]
    most = quantity.factor * max(map(abs, each.interval))
    return f"unknown (≤\N{NO-BREAK SPACE}{format_number(most, quantity.digits)})"


def name_arm(row: Mapping[str, str], words: Sequence[str]) -> list[tuple[str, float | None]]:
    """An arm's words, its settings beside its regularizer."""
    return [(name_regularizer(row) if word == "regularizer" else row[word], None) for word in words]


def name_regularizer(row: Mapping[str, str]) -> str:
    """An arm's regularizer and the settings that tell it apart."""
    return " ".join([row["regularizer"], *map(shorten_hash, row["settings"].split())])


def signed(metric: str, difference: float | None, interval: tuple[float, float] | None) -> tuple[str, str]:
    """A difference and its interval with the decimals that the latter supports; empty where they are not known."""
    if difference is None:
        return "", ""
    quantity = (QUALITIES | COSTS)[metric]
    half = (interval[1] - interval[0]) / 2 if interval else None
    text, precision = print_with_half(quantity, difference, half)
    digits = 0 if "e" in precision else len(precision.partition(".")[2])
    ends = " to ".join(format_number(quantity.factor * end, digits, "+") for end in interval or ())
    return text if text.startswith("-") else f"+{text}", ends


def interaction_grid(rows: Sequence[Comparison], words: Sequence[str]) -> Grid:
    """What stacks do beyond the sum of their parts, on the main metrics."""
    rows = [each for each in rows if each.metric in MAIN_METRICS]
    cells: list[list[tuple[str, float | None]]] = []
    for each in rows:
        text, interval = signed(each.metric, each.difference, each.interval)
        metric = (QUALITIES[each.metric].title, None)
        numbers = [
            (str(each.seeds), each.seeds),
            (text, _sortable(each.difference)),
            (interval, each.interval[0] if each.interval else math.nan),
        ]
        p = (describe_p(each.p), _sortable(each.p))
        cells.append([*name_arm(each.arm.words, words), metric, *numbers, p, (each.note, None)])
    header = [*words, "metric", "seeds", "interaction", "95 % over seeds", "p", ""]
    return Grid(header, cells, [each.arm.arm_id for each in rows])
