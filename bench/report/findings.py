"""What the page opens with: a sentence for each main metric on what differs from `none` beyond chance, and what not."""

from collections.abc import Collection, Sequence

from bench.evidence.comparison import MAIN_METRICS
from bench.measure import QUALITIES
from bench.record.tables import Row
from bench.report.cells import BETTER, make_mark
from bench.report.differences import name_regularizer

_MOST_NAMES = 12  # in a list; more are counted
_HOW = {  # a difference beyond chance: filled marks of the tables, hollow ones, and those that matter little
    "": "beyond chance",
    " by seeds alone": "beyond the noise of seeds, but not shown to be beyond that of test images,",
    " within the margin": "beyond chance, but by less than the margin of equivalence,",
}
_ELSE = {
    "the same": "the same within the margin of equivalence",
    "unknown": "not shown to differ, which does not mean that it is the same,",
    "untested": "not tested",
}


def describe_findings(rows: Sequence[Row], supported: Collection[tuple[str, str, str]]) -> list[str]:
    """The sentences, in the order of the main metrics.

    Args:
        rows: of comparison.csv, those of one dataset and model against `none`.
        supported: arm, baseline and metric of each difference that is beyond the noise of test images, too.
    """
    by_metric = {metric: [row for row in rows if row["metric"] == metric] for metric in MAIN_METRICS}
    return [_describe(metric, each, supported) for metric, each in by_metric.items() if each]


def _describe(metric: str, rows: Sequence[Row], supported: Collection[tuple[str, str, str]]) -> str:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        beyond_images = (row["arm_id"], row["baseline"], metric) in supported
        groups.setdefault(_judge(row, beyond_images=beyond_images), []).append(row)
    names = {key: _list_names(each, rows) for key, each in groups.items()}
    told = []
    for word in ("better", "worse"):
        found = [f"{word} {how} for {names[word + key]}" for key, how in _HOW.items() if word + key in names]
        told += found or [f"{word} for no arm"]
    if all(each.endswith("for no arm") for each in told):
        told = ["neither better nor worse beyond chance for any arm"]
    told += [f"{words} for {names[key]}" for key, words in _ELSE.items() if key in names]
    return f"Against `none`, {QUALITIES[metric].title.removesuffix(' %')} is {'; '.join(told)}."


def _judge(row: Row, *, beyond_images: bool) -> str:
    """A verdict, with what limits it."""
    if not row["p_holm"]:
        return "untested"
    numbers = {key: float(row[key]) for key in ("p_holm", "difference")}
    mark = make_mark({"metric": row["metric"], **numbers})
    if not mark:
        return row["verdict"]
    word = "better" if mark == BETTER else "worse"
    if row["verdict"] == "the same":
        return f"{word} within the margin"
    return word if beyond_images else f"{word} by seeds alone"


def _list_names(rows: Sequence[Row], of: Sequence[Row]) -> str:
    """Arms by their regularizers, with the optimizers in brackets where there are several; only "all" of many."""
    if len(rows) == len(of):
        return {1: name_regularizer(rows[0]), 2: "both arms"}.get(len(of), f"all {len(of)} arms")
    optimizers: dict[str, list[str]] = {}
    for row in rows:
        optimizers.setdefault(name_regularizer(row), []).append(row["optimizer"])
    several = len({row["optimizer"] for row in of}) > 1
    names = [f"{name} ({', '.join(each)})" if several else name for name, each in optimizers.items()]
    left = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + f" and {left} more" * (left > 0)
