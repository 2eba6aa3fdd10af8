"""Arms against their baseline, over the seeds that both have: the rows of comparison.csv, and interactions.

Tests of one question are a family, and Holm's correction is within it (Holm 1979). The questions are: regularizers
against `none`, within an optimizer; optimizers against SGD, over all regularizers; arms against a chosen one. A family
is a question's comparisons on one dataset and model by one metric, all that were planned: an arm that has no p counts.
Where runs diverged or failed on either side, the seeds that are left are no fair sample: such a comparison has a p, but
none that is corrected, and what is compared is how often arms diverge (metric `diverged`).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bench.config import AXES
from bench.evidence.margins import Margins, find_margin
from bench.evidence.pairing import (
    METRICS,
    Arm,
    contains,
    group,
    pair_with_arm,
    pair_with_baseline,
    pair_with_sgd,
    rest,
)
from bench.evidence.stats import (
    FEWEST_SEEDS,
    LEVEL_OF_TESTS,
    PairedTest,
    holm,
    mcnemar,
    paired_t,
    share_improved,
    smallest_detectable,
    varies,
)
from bench.measure import QUALITIES
from bench.measure.arrays import Floats
from bench.status import Status

COMPARISON_COLUMNS = [
    *(*AXES, "settings", "arm_id", "baseline", "metric", "seeds", "difference", "low", "high", "p", "p_holm"),
    *("improved", "note", "family", "family_size", "verdict", "detectable"),
]
MAIN_METRICS = ("test_accuracy", "test_nll", "test_ece")
DIVERGED = Status.DIVERGED.value  # a metric of comparison.csv: the share of runs that diverged

_TOO_FEW = f"fewer than {FEWEST_SEEDS} common seeds"

_Pair = tuple[Arm, Arm]


class _Family(NamedTuple):
    """What is corrected together, for each metric."""

    question: str
    dataset: str
    model: str


def compare(
    arms: Mapping[str, Arm],
    baseline: str = "none",
    metrics: Sequence[str] = METRICS,
    margins: Margins = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """The rows of comparison.csv: a row for each arm, what it is compared with, and each metric that one of them has.

    Args:
        arms: of `read_arms`.
        baseline: a regularizer as in the tables, for arms that equal it in all else; or the arm_id of one with which
            all other arms of its dataset and model are compared, whatever they differ in.
        metrics: columns of runs.csv; those that are no quality of an arm are left out.
        margins: of `read_margins`, for the verdicts.

    Raises:
        UsageError: no arm is called so, or several that equal each other in all but their regularizers' settings.
    """
    asked = [(_Family(question, *pair[0].place), pair) for question, pair in _ask(arms, baseline)]
    sizes = Counter(family for family, _ in asked)
    diverging = {family for family, pair in asked if any(DIVERGED in arm.unfinished.values() for arm in pair)}
    rows: list[dict[str, Any]] = []
    members: dict[tuple[_Family, str], list[dict[str, Any]]] = defaultdict(list)
    for family, pair in asked:
        found = list(_compare_pair(*pair, metrics, LEVEL_OF_TESTS / sizes[family]))
        found += _compare_divergence(*pair) if family in diverging else ()
        for row in found:
            row |= {"family": family.question, "family_size": sizes[family]}
            members[family, row["metric"]].append(row)
        rows += found
    for (family, _), each in members.items():
        p = [math.nan if row.pop("survivors") else row["p"] for row in each]
        for row, corrected in zip(each, holm(p, sizes[family]), strict=True):
            row["p_holm"] = corrected
            row["verdict"] = _judge(row, margins, arms[row["baseline"]])
    return [{key: _none_for_nan(value) for key, value in row.items()} for row in rows]


def _judge(row: Mapping[str, Any], margins: Margins, baseline: Arm) -> str:
    """Whether an arm is better, worse, the same or unknown; empty where the metric has no better end.

    It is the same where the interval lies within the margin, beyond chance or not; unknown is what no test has shown.
    """
    quantity = QUALITIES.get(row["metric"])
    better = {"higher": 1, "lower": -1}.get(quantity.better if quantity else "lower")
    if better is None:
        return ""
    if math.isnan(row["p_holm"]):
        return "unknown"
    if quantity:
        of_baseline = [values[METRICS.index(quantity.column)] for values in baseline.values.values()]
        margin = find_margin(margins, quantity.column, float(np.nanmean(of_baseline)))
        if -margin < row["low"] and row["high"] < margin:
            return "the same"
    if row["p_holm"] >= LEVEL_OF_TESTS:
        return "unknown"
    return "better" if better * row["difference"] > 0 else "worse"


def _ask(arms: Mapping[str, Arm], baseline: str) -> Iterator[tuple[str, _Pair]]:
    """The planned comparisons, each with its question."""
    if baseline in arms:
        yield from ((f"arms against {baseline}", pair) for pair in pair_with_arm(arms, arms[baseline]))
        return
    for arm, other in pair_with_baseline(arms, baseline):
        yield f"regularizers against {baseline}, {arm.words['optimizer']}", (arm, other)
    yield from (("optimizers against sgd", pair) for pair in pair_with_sgd(arms))


def interactions(arms: Mapping[str, Arm]) -> list[dict[str, Any]]:
    """What a stack of two does beyond the sum of what each does, per metric, where all four cells exist.

    Per seed it is stack - first - second + none, of arms that are alike in every setting that they share. Rows are like
    those of `compare`, with the interaction as `difference`; `baseline` and `improved` are left out.
    """
    by_rest = group(arms.values(), ("regularizer",))
    rows = []
    for stack in arms.values():
        parts = stack.words["regularizer"].split("+")
        if len(parts) != 2:
            continue
        like = [arm for arm in by_rest[rest(stack, ("regularizer",))] if contains(stack, arm)]
        cells = [[arm for arm in like if arm.words["regularizer"] == word] for word in (*parts, "none")]
        if all(len(cell) == 1 for cell in cells):
            first, second, none = (cell[0] for cell in cells)
            rows += _interaction(stack, first, second, none)
    return rows


def _interaction(stack: Arm, first: Arm, second: Arm, none: Arm) -> list[dict[str, Any]]:
    four = (stack, first, second, none)
    seeds = [seed for seed in stack.values if all(seed in arm.values for arm in four)]
    unfinished = [f"{each} of {arm.words['regularizer']}" for arm in four for each in arm.describe_unfinished()]
    rows: list[dict[str, Any]] = []
    for i, metric in enumerate(METRICS):
        cells = np.array([[arm.values[seed][i] for arm in four] for seed in seeds]).reshape(-1, 4)
        test = _test(cells, (1, -1, -1, 1))
        if not seeds and metric in MAIN_METRICS:
            test = {"seeds": 0, **dict.fromkeys(PairedTest._fields, math.nan), "note": "no common seeds"}
        if test:
            note = "; ".join(filter(None, [test["note"], *unfinished]))
            row = {**stack.words, "metric": metric, **test, "note": note}
            rows.append({key: _none_for_nan(value) for key, value in row.items()})
    return rows


def _compare_pair(arm: Arm, baseline: Arm, metrics: Sequence[str], level: float) -> Iterable[dict[str, Any]]:
    """A row for each metric that both have; where no seed is common, rows that say so. `level` is of its first test."""
    unfinished = _tell_unfinished(arm, baseline)
    who = {**arm.words, "baseline": baseline.arm_id, "survivors": bool(unfinished)}
    seeds = [seed for seed in arm.values if seed in baseline.values]
    if not seeds:
        note = "; ".join(["no common seeds", *unfinished])
        yield from ({**who, "metric": metric, "seeds": 0, "p": math.nan, "note": note} for metric in MAIN_METRICS)
    values = np.array([[arm.values[seed], baseline.values[seed]] for seed in seeds])
    for metric in (each for each in metrics if seeds and each in QUALITIES):
        pairs = values[:, :, METRICS.index(metric)]
        test = _test(pairs, (1, -1))
        if test:
            pairs = pairs[~np.isnan(pairs).any(axis=1)]
            improved = float(share_improved(QUALITIES[metric].gain(*pairs.T)))
            if test["p"] == test["p"] and not test["note"]:
                test["detectable"] = smallest_detectable(pairs[:, 0] - pairs[:, 1], level)
            note = "; ".join(filter(None, [test["note"], *unfinished]))
            yield {**who, "metric": metric, **test, "improved": improved, "note": note}


def _compare_divergence(arm: Arm, baseline: Arm) -> Iterable[dict[str, Any]]:
    """A row with the difference of the shares of runs that diverged, of those that did not fail."""
    ours, theirs = ({**dict.fromkeys(each.values, Status.DONE), **each.unfinished} for each in (arm, baseline))
    seeds = [seed for seed in ours if seed in theirs and Status.FAILED not in (ours[seed], theirs[seed])]
    if not seeds:
        return
    pair = [[outcome[seed] == DIVERGED for seed in seeds] for outcome in (ours, theirs)]
    few = len(seeds) < FEWEST_SEEDS
    differences = np.subtract(*np.array(pair, dtype=np.float64))
    yield {
        **arm.words,
        **{"baseline": baseline.arm_id, "metric": DIVERGED, "survivors": False, "seeds": len(seeds)},
        **{"difference": float(differences.mean()), "p": math.nan if few else mcnemar(*pair)},
        **{"improved": share_improved(-differences), "note": _TOO_FEW if few else "exact test of McNemar"},
    }


def _test(cells: Floats, weights: Sequence[int]) -> dict[str, Any]:
    """A paired test of the weighted sum of the cells of each seed (n, cells); none where no seed has all of them."""
    cells = cells[~np.isnan(cells).any(axis=1)]
    if len(cells) == 0:
        return {}
    differences, scale = cells @ np.array(weights, dtype=np.float64), float(np.abs(cells).max())
    result, note = paired_t(differences, scale), ""
    if len(cells) < FEWEST_SEEDS:
        note = _TOO_FEW
    elif not varies(differences, scale):
        note = "equal in every seed" if result.p == 1 else "the same difference in every seed: exact test of signs"
    return {"seeds": len(cells), **result._asdict(), "note": note}


def _tell_unfinished(arm: Arm, baseline: Arm) -> list[str]:
    return arm.describe_unfinished() + [f"{each} of the baseline" for each in baseline.describe_unfinished()]


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
