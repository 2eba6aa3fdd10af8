"""Arms against their baseline, over the seeds that both have: the rows of comparison.csv, and interactions.

Tests of one question are a family, and Holm's correction is within it (Holm 1979). The questions are: regularizers
against `none`, within an optimizer; optimizers against SGD, over all regularizers; arms against a chosen one. A family
is a question's comparisons on one dataset and model by one metric, all that were planned: an arm that has no p counts.
Where runs diverged or failed on either side, the seeds that are left are no fair sample: such a comparison has a p, but
none that is corrected, and what is compared is how often arms diverge (metric `diverged`).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

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


@dataclass(frozen=True)
class Comparison:
    """An arm against its baseline by one metric, over the seeds that both have: a row of comparison.csv.

    Attributes:
        arm: what is compared.
        baseline: with what; of an interaction the arm of no regularizer.
        metric: a column of runs.csv, or DIVERGED.
        seeds: how many are common.
        difference: the arm's mean less the baseline's; `low` and `high` end its 95 % t interval.
        p: of the paired test; `p_holm` is corrected within the family. None where there is no test.
        improved: the share of seeds in which the arm is better; equal ones count half.
        note: why there is no test, or another, and what did not finish.
        family: the question that it is one answer to; `family_size` counts these.
        verdict: better, worse, the same or unknown; empty where the metric has no better end.
        detectable: the smallest difference that such a test shows with 80 % power.
    """

    arm: Arm
    baseline: Arm
    metric: str
    seeds: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    improved: float | None = None
    note: str = ""
    family: str = ""
    family_size: int = 0
    verdict: str = ""
    detectable: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Arm, baseline and metric: what names it among an experiment's comparisons."""
        return self.arm.arm_id, self.baseline.arm_id, self.metric

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of its interval; None where there are too few seeds for one: that of two says next to nothing."""
        if self.low is None or self.high is None or self.seeds < FEWEST_SEEDS:
            return None
        return self.low, self.high

    @property
    def is_of_optimizers(self) -> bool:
        """Whether it sets an arm of another optimizer against the SGD arm."""
        return self.arm.words["optimizer"] != self.baseline.words["optimizer"]

    @property
    def has_survivors_only(self) -> bool:
        """Whether runs of either side did not finish: the seeds that are left are no fair sample."""
        return self.metric != DIVERGED and bool(self.arm.unfinished or self.baseline.unfinished)

    def to_row(self) -> dict[str, Any]:
        """As in comparison.csv."""
        numbers = {each.name: getattr(self, each.name) for each in fields(self)[2:]}
        return {**self.arm.words, "baseline": self.baseline.arm_id, **numbers}


def read_comparison(row: Mapping[str, str], arms: Mapping[str, Arm]) -> Comparison | None:
    """The comparison of a row of comparison.csv; None where one of its arms is not among `arms`."""
    if not {row["arm_id"], row["baseline"]} <= arms.keys():
        return None
    cells: dict[str, Any] = {key: row.get(key, "") for key in ("note", "family", "verdict")}
    cells |= {key: int(row.get(key) or 0) for key in ("seeds", "family_size")}
    numbers = ("difference", "low", "high", "p", "p_holm", "improved", "detectable")
    cells |= {key: float(row[key]) if row.get(key) else None for key in numbers}
    return Comparison(arms[row["arm_id"]], arms[row["baseline"]], row["metric"], **cells)


def compare(
    arms: Mapping[str, Arm],
    baseline: str = "none",
    metrics: Sequence[str] = METRICS,
    margins: Margins = MappingProxyType({}),
) -> list[Comparison]:
    """One for each arm, what it is compared with, and each metric that one of them has.

    Args:
        arms: of `read_arms`.
        baseline: a regularizer as in the tables, for arms that equal it in all else; or the arm_id of one with which
            all other arms of its dataset and model are compared, whatever they differ in.
        metrics: columns of runs.csv; those that are no quality of an arm are left out.
        margins: of `read_margins`, for the verdicts.

    Raises:
        UsageError: no arm is called so, or several that equal each other in all but their regularizers' settings.
    """
    asked = [((question, pair[0].place), pair) for question, pair in _ask(arms, baseline)]
    sizes = Counter(family for family, _ in asked)
    diverging = {family for family, pair in asked if any(DIVERGED in arm.unfinished.values() for arm in pair)}
    families: dict[Any, list[Comparison]] = defaultdict(list)
    order: list[tuple[str, str, str]] = []
    for family, pair in asked:
        found = [*_compare_pair(*pair, metrics, LEVEL_OF_TESTS / sizes[family])]
        found += _compare_divergence(*pair) if family in diverging else ()
        for each in found:
            order.append(each.key)
            families[family, each.metric].append(replace(each, family=family[0], family_size=sizes[family]))
    corrected = {each.key: each for family in families.values() for each in _correct(family, margins)}
    return [corrected[key] for key in order]


def _correct(family: Sequence[Comparison], margins: Margins) -> Iterator[Comparison]:
    """The comparisons of a family with Holm's correction and their verdicts."""
    p = [math.nan if each.p is None or each.has_survivors_only else each.p for each in family]
    for each, corrected in zip(family, holm(p, family[0].family_size), strict=True):
        tested = replace(each, p_holm=_none_for_nan(corrected))
        yield replace(tested, verdict=_judge(tested, margins))


def _judge(compared: Comparison, margins: Margins) -> str:
    """Whether an arm is better, worse, the same or unknown; empty where the metric has no better end.

    It is the same where the interval lies within the margin, beyond chance or not; unknown is what no test has shown.
    """
    quantity = QUALITIES.get(compared.metric)
    better = {"higher": 1, "lower": -1}.get(quantity.better if quantity else "lower")
    if better is None:
        return ""
    if compared.p_holm is None or compared.difference is None:
        return "unknown"
    if quantity and compared.low is not None and compared.high is not None:
        of_baseline = [values[METRICS.index(quantity.column)] for values in compared.baseline.values.values()]
        margin = find_margin(margins, quantity.column, float(np.nanmean(of_baseline)))
        if -margin < compared.low and compared.high < margin:
            return "the same"
    if compared.p_holm >= LEVEL_OF_TESTS:
        return "unknown"
    return "better" if better * compared.difference > 0 else "worse"


def _ask(arms: Mapping[str, Arm], baseline: str) -> Iterator[tuple[str, _Pair]]:
    """The planned comparisons, each with its question."""
    if baseline in arms:
        yield from ((f"arms against {baseline}", pair) for pair in pair_with_arm(arms, arms[baseline]))
        return
    for arm, other in pair_with_baseline(arms, baseline):
        yield f"regularizers against {baseline}, {arm.words['optimizer']}", (arm, other)
    yield from (("optimizers against sgd", pair) for pair in pair_with_sgd(arms))


def interactions(arms: Mapping[str, Arm]) -> list[Comparison]:
    """What a stack of two does beyond the sum of what each does, per metric, where all four cells exist.

    Per seed it is stack - first - second + none, of arms that are alike in every setting that they share; that is the
    `difference`, which has a p, but no correction and no verdict.
    """
    by_rest = group(arms.values(), ("regularizer",))
    found: list[Comparison] = []
    for stack in arms.values():
        parts = stack.words["regularizer"].split("+")
        if len(parts) != 2:
            continue
        like = [arm for arm in by_rest[rest(stack, ("regularizer",))] if contains(stack, arm)]
        cells = [[arm for arm in like if arm.words["regularizer"] == word] for word in (*parts, "none")]
        if all(len(cell) == 1 for cell in cells):
            first, second, none = (cell[0] for cell in cells)
            found += _interaction(stack, first, second, none)
    return found


def _interaction(stack: Arm, first: Arm, second: Arm, none: Arm) -> Iterator[Comparison]:
    four = (stack, first, second, none)
    seeds = [seed for seed in stack.values if all(seed in arm.values for arm in four)]
    unfinished = [f"{each} of {arm.words['regularizer']}" for arm in four for each in arm.describe_unfinished()]
    for i, metric in enumerate(METRICS):
        cells = np.array([[arm.values[seed][i] for arm in four] for seed in seeds]).reshape(-1, 4)
        test = _test(cells, (1, -1, -1, 1))
        if not seeds and metric in MAIN_METRICS:
            test = {"seeds": 0, "note": "no common seeds"}
        if test:
            test["note"] = "; ".join(filter(None, [test["note"], *unfinished]))
            yield Comparison(stack, none, metric, **test)


def _compare_pair(arm: Arm, baseline: Arm, metrics: Sequence[str], level: float) -> Iterator[Comparison]:
    """One for each metric that both have; where no seed is common, some that say so. `level` is of its first test."""
    unfinished = _describe_unfinished(arm, baseline)
    seeds = [seed for seed in arm.values if seed in baseline.values]
    if not seeds:
        note = "; ".join(["no common seeds", *unfinished])
        yield from (Comparison(arm, baseline, metric, 0, note=note) for metric in MAIN_METRICS)
    values = np.array([[arm.values[seed], baseline.values[seed]] for seed in seeds])
    for metric in (each for each in metrics if seeds and each in QUALITIES):
        pairs = values[:, :, METRICS.index(metric)]
        test = _test(pairs, (1, -1))
        if test:
            pairs = pairs[~np.isnan(pairs).any(axis=1)]
            test["improved"] = _none_for_nan(float(share_improved(QUALITIES[metric].gain(*pairs.T))))
            if test["p"] is not None and not test["note"]:
                test["detectable"] = smallest_detectable(pairs[:, 0] - pairs[:, 1], level)
            test["note"] = "; ".join(filter(None, [test["note"], *unfinished]))
            yield Comparison(arm, baseline, metric, **test)


def _compare_divergence(arm: Arm, baseline: Arm) -> Iterator[Comparison]:
    """The difference of the shares of runs that diverged, of those that did not fail."""
    ours, theirs = ({**dict.fromkeys(each.values, Status.DONE), **each.unfinished} for each in (arm, baseline))
    seeds = [seed for seed in ours if seed in theirs and Status.FAILED not in (ours[seed], theirs[seed])]
    if not seeds:
        return
    pair = [[outcome[seed] == DIVERGED for seed in seeds] for outcome in (ours, theirs)]
    few = len(seeds) < FEWEST_SEEDS
    differences = np.subtract(*np.array(pair, dtype=np.float64))
    yield Comparison(
        *(arm, baseline, DIVERGED, len(seeds)),
        difference=float(differences.mean()),
        p=None if few else mcnemar(*pair),
        improved=share_improved(-differences),
        note=_TOO_FEW if few else "exact test of McNemar",
    )


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
    numbers = {key: _none_for_nan(value) for key, value in result._asdict().items()}
    return {"seeds": len(cells), **numbers, "note": note}


def _describe_unfinished(arm: Arm, baseline: Arm) -> list[str]:
    return arm.describe_unfinished() + [f"{each} of the baseline" for each in baseline.describe_unfinished()]


def _none_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
