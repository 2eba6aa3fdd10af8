"""What holds in general: arms ranked over the data sets and models of several experiments.

Source: Demšar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets": a rank of each arm in each place
(1 is best, ties share), Friedman's test of whether arms differ at all, then all pairs with Holm's correction. Pairs are
compared by Wilcoxon's signed-rank test of their values, not by mean ranks, which depend on what else is ranked
(Benavoli et al. 2016, "Should We Really Use Post-Hoc Tests Based on Mean-Ranks?").
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import friedmanchisquare, rankdata

from bench.evidence.stats import holm
from bench.measure import QUALITIES
from bench.measure.arrays import Floats
from bench.measure.quantities import Quantity
from bench.record.read_tables import Row
from bench.status import Status

ALPHA = 0.05
RANK_COLUMNS = ["metric", "place", "regularizer", "optimizer", "value", "rank"]
PAIR_COLUMNS = ["metric", "arm", "other", "places", "wins", "losses", "p", "p_holm", "friedman_p"]
_FEWEST_ARMS = 3  # for Friedman's test


class Name(NamedTuple):
    """What is the same arm in several places: its settings may differ, as learning rates do between data sets."""

    regularizer: str
    optimizer: str

    def __str__(self) -> str:
        return f"{self.regularizer}, {self.optimizer}"


@dataclass(frozen=True)
class Ranking:
    """Arms by one metric in several places.

    Attributes:
        quantity: the metric.
        places: the names of experiment, data set and model.
        arms: that are in all of them.
        values: (places, arms), means over the seeds that all arms of a place have.
        ranks: likewise, from 1 for the best.
        friedman: p of Friedman's test that all arms are alike; NaN where there are too few.
        pairs: p and p after Holm's correction of each pair, by the positions of its arms.
    """

    quantity: Quantity
    places: list[str]
    arms: list[Name]
    values: Floats
    ranks: Floats
    friedman: float
    pairs: dict[tuple[int, int], tuple[float, float]]

    @property
    def mean_ranks(self) -> Floats:
        """(arms,), 1 where an arm is the best everywhere."""
        means: Floats = self.ranks.mean(axis=0)
        return means

    def differ(self, one: int, other: int) -> bool:
        """Whether two arms differ beyond chance."""
        return self.pairs[min(one, other), max(one, other)][1] < ALPHA

    def find_groups(self) -> list[tuple[int, int]]:
        """The longest stretches of arms, in the order of their mean ranks, of which no two differ: first and last."""
        order = np.argsort(self.mean_ranks, kind="stable").tolist()
        groups: list[tuple[int, int]] = []
        for first in range(len(order)):
            last = first
            while last + 1 < len(order) and not any(self.differ(order[last + 1], o) for o in order[first : last + 1]):
                last += 1
            if last > first and (not groups or last > groups[-1][1]):
                groups.append((first, last))
        return groups

    def describe(self) -> str:
        """What can be said, in words."""
        n, least = len(self.places), 2.0 ** (1 - len(self.places)) * len(self.pairs)
        if least >= ALPHA:
            needed = next(m for m in range(n, 100) if 2.0 ** (1 - m) * len(self.pairs) < ALPHA)
            return (
                f"{n} places are too few to say anything in general: with {len(self.pairs)} pairs no test could find a "
                f"difference in fewer than {needed}"
            )
        found = sum(corrected < ALPHA for _, corrected in self.pairs.values())
        return f"Friedman p = {self.friedman:.2g}; {found} of {len(self.pairs)} pairs differ beyond chance"


def rank_arms(experiments: Mapping[str, Sequence[Row]], metrics: Sequence[str]) -> list[Ranking]:
    """A ranking by each metric that has a better end, of the arms that all places have.

    Args:
        experiments: the rows of runs.csv of each.
        metrics: columns of runs.csv.
    """
    places = _gather(experiments)
    shared = [name for name in next(iter(places.values()), {}) if all(name in arms for arms in places.values())]
    rankings = []
    for metric in metrics:
        if metric in QUALITIES and QUALITIES[metric].better and len(shared) > 1 and len(places) > 1:
            values = np.array([_means(arms, shared, metric) for arms in places.values()])
            if not np.isnan(values).any():
                rankings.append(_rank(QUALITIES[metric], list(places), shared, values))
    return rankings


def _gather(experiments: Mapping[str, Sequence[Row]]) -> dict[str, dict[Name, dict[int, Row]]]:
    """In each place the finished runs of each arm by seed; an arm that is there with several settings is left out."""
    places: dict[str, dict[Name, dict[int, Row]]] = defaultdict(dict)
    of_name: dict[tuple[str, Name], set[str]] = defaultdict(set)
    for exp, rows in experiments.items():
        for row in rows:
            place, name = f"{exp}: {row['model']} on {row['dataset']}", Name(row["regularizer"], row["optimizer"])
            of_name[place, name].add(row["arm_id"])
            if row["status"] == Status.DONE:
                places[place].setdefault(name, {})[int(row["seed"])] = row
    for (place, name), arms in of_name.items():
        if len(arms) > 1:
            places[place].pop(name, None)
    return places


def _means(arms: Mapping[Name, Mapping[int, Row]], names: Sequence[Name], metric: str) -> list[float]:
    seeds = set.intersection(*(set(arms[name]) for name in names))
    if not seeds:
        return [nan] * len(names)
    return [float(np.mean([float(arms[name][seed].get(metric) or nan) for seed in sorted(seeds)])) for name in names]


def _rank(quantity: Quantity, places: list[str], arms: list[Name], values: Floats) -> Ranking:
    gains = quantity.gain(values, np.zeros_like(values))
    ranks = np.asarray(rankdata(-gains, axis=1), dtype=np.float64)
    pairs = list(combinations(range(len(arms)), 2))
    p = [_compare(gains[:, one] - gains[:, other]) for one, other in pairs]
    enough = len(arms) >= _FEWEST_ARMS and np.ptp(ranks) > 0
    friedman = float(friedmanchisquare(*gains.T).pvalue) if enough else nan
    corrected = dict(zip(pairs, zip(p, holm(p), strict=True), strict=True))
    return Ranking(quantity, places, arms, values, ranks, friedman, corrected)


def _compare(differences: Floats) -> float:
    """p of Wilcoxon's two-sided signed-rank test: exact, also with ties, over all signs; what is 0 is left out.

    SciPy's releases differ in what they take for ties on few values.
    """
    differences = differences[differences != 0]
    doubled = np.rint(2 * rankdata(np.abs(differences))).astype(int)  # whole, also where ranks are shared
    ways = np.ones(1)  # of each sum of the ranks that are positive
    for rank in doubled:
        ways = np.append(ways, np.zeros(rank)) + np.append(np.zeros(rank), ways)
    at = doubled[differences > 0].sum()
    return min(1.0, 2 * float(min(ways[: at + 1].sum(), ways[at:].sum()) / ways.sum()))


def to_rows(ranking: Ranking) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of ranks.csv and of pairs.csv."""
    metric = {"metric": ranking.quantity.column}
    ranks = [
        {**metric, "place": place, **arm._asdict(), "value": ranking.values[i, k], "rank": ranking.ranks[i, k]}
        for i, place in enumerate(ranking.places)
        for k, arm in enumerate(ranking.arms)
    ]
    pairs = []
    for (one, other), (p, corrected) in ranking.pairs.items():
        ahead = np.sign(ranking.ranks[:, other] - ranking.ranks[:, one])
        counts = {"places": len(ahead), "wins": int((ahead > 0).sum()), "losses": int((ahead < 0).sum())}
        tests = {"p": p, "p_holm": corrected, "friedman_p": None if np.isnan(ranking.friedman) else ranking.friedman}
        pairs.append({**metric, "arm": ranking.arms[one], "other": ranking.arms[other], **counts, **tests})
    return ranks, pairs
