"""What the page opens with: a sentence for each main metric on what differs from `none` beyond chance, and what not."""

from collections.abc import Collection, Sequence

from bench.evidence.comparison import MAIN_METRICS, Comparison
from bench.measure import QUALITIES
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


def describe_findings(rows: Sequence[Comparison], supported: Collection[tuple[str, str, str]]) -> list[str]:
    """The sentences, in the order of the main metrics.

    Args:
        rows: the comparisons of one dataset and model with `none`.
        supported: arm, baseline and metric of each difference that is beyond the noise of test images, too.
    """
    by_metric = {metric: [each for each in rows if each.metric == metric] for metric in MAIN_METRICS}
    return [_describe(metric, each, supported) for metric, each in by_metric.items() if each]


def _describe(metric: str, rows: Sequence[Comparison], supported: Collection[tuple[str, str, str]]) -> str:
    groups: dict[str, list[Comparison]] = {}
    for each in rows:
        groups.setdefault(_judge(each, beyond_images=each.key in supported), []).append(each)
    names = {key: _list_names(some, rows) for key, some in groups.items()}
    parts = []
    for word in ("better", "worse"):
        found = [f"{word} {how} for {names[word + key]}" for key, how in _HOW.items() if word + key in names]
        parts += found or [f"{word} for no arm"]
    if all(each.endswith("for no arm") for each in parts):
        parts = ["neither better nor worse beyond chance for any arm"]
    parts += [f"{words} for {names[key]}" for key, words in _ELSE.items() if key in names]
    return f"Against `none`, {QUALITIES[metric].title.removesuffix(' %')} is {'; '.join(parts)}."


def _judge(compared: Comparison, *, beyond_images: bool) -> str:
    """A verdict, with what limits it."""
    if compared.p_holm is None:
        return "untested"
    mark = make_mark(compared)
    if not mark:
        return compared.verdict
    word = "better" if mark == BETTER else "worse"
    if compared.verdict == "the same":
        return f"{word} within the margin"
    return word if beyond_images else f"{word} by seeds alone"


def _list_names(rows: Sequence[Comparison], of: Sequence[Comparison]) -> str:
    """Arms by their regularizers, with the optimizers in brackets where there are several; only "all" of many."""
    if len(rows) == len(of):
        return {1: name_regularizer(rows[0].arm.words), 2: "both arms"}.get(len(of), f"all {len(of)} arms")
    optimizers: dict[str, list[str]] = {}
    for each in rows:
        optimizers.setdefault(name_regularizer(each.arm.words), []).append(each.arm.words["optimizer"])
    several = len({each.arm.words["optimizer"] for each in of}) > 1
    names = [f"{name} ({', '.join(those)})" if several else name for name, those in optimizers.items()]
    left = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + f" and {left} more" * (left > 0)
