"""A claim put to the test: a region in which an effect must lie, and the verdict that paired seeds allow.

A claim is written `> 0.01`, `< -0.01` or `|effect| < 0.02`. It is supported where the effect's 95 % interval lies
wholly inside that region, contradicted where it lies wholly outside, and else inconclusive. Of several values of a
setting, such as the strength of a method, the intervals are Holm's: the clearest of m has the level 1 - 0.05 / m, the
next one 1 - 0.05 / (m - 1), and so on until one decides nothing, at whose level all that follow stay (Holm 1979). A
claim that something *can* happen needs one of them.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.evidence.stats import FEWEST_SEEDS, LEVEL_OF_TESTS, t_quantile, varies
from bench.measure.arrays import Floats

Verdict = Literal["supported", "contradicted", "inconclusive"]
SUPPORTED: Verdict = "supported"
CONTRADICTED: Verdict = "contradicted"
INCONCLUSIVE: Verdict = "inconclusive"

_MOST_SEEDS = 10_000
_NUMBER = r"([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)"
_ABOVE, _BELOW, _WITHIN = (re.compile(rf"{sign} *{_NUMBER}") for sign in (">", "<", r"\|effect\| *<"))


@dataclass(frozen=True)
class Region:
    """The open interval of effects in which a claim holds, and its text."""

    text: str
    low: float
    high: float

    def judge(self, low: float, high: float) -> Verdict:
        """What an interval from `low` to `high` says of the claim."""
        if self.low < low and high < self.high:
            return SUPPORTED
        return CONTRADICTED if high <= self.low or self.high <= low else INCONCLUSIVE

    def distance(self, effect: float) -> float:
        """From an effect to the nearest end of the region."""
        return min(abs(effect - self.low), abs(effect - self.high))


def parse_region(text: str) -> Region:
    """The region that a claim's text names.

    Raises:
        ValueError: it names none.
    """
    if match := _ABOVE.fullmatch(text.strip()):
        return Region(text, float(match[1]), math.inf)
    if match := _BELOW.fullmatch(text.strip()):
        return Region(text, -math.inf, float(match[1]))
    match = _WITHIN.fullmatch(text.strip())
    if match and float(match[1]) > 0:
        return Region(text, -float(match[1]), float(match[1]))
    raise ValueError(f"{text!r} is no region: write `> 0.01`, `< -0.01` or `|effect| < 0.02`")


@dataclass(frozen=True)
class Effect:
    """The effect of one value, over paired seeds; without three of them there is no interval, and no verdict.

    Attributes:
        value: the value of the setting that tells it from the claim's other effects; empty where there is one.
        mean: over the seeds; NaN of none.
        low: with `high` its interval, at the level of its place among the claim's effects; NaN with fewer than 3 seeds.
        high: the upper end; NaN with fewer than 3 seeds.
        seeds: how many pairs.
        verdict: of this effect alone.
        values: of the seeds.
        seeds_needed: with how many seeds of this spread the interval would leave the end of the region that is nearest
            to the mean; None where it does by now, where that is not known, or beyond 10,000.
    """

    value: str
    mean: float
    low: float
    high: float
    seeds: int
    verdict: Verdict
    seeds_needed: int | None
    values: Sequence[float] = ()


@dataclass(frozen=True)
class Finding:
    """A claim's verdict, the effect that decides it, or is nearest to deciding it, and all its effects."""

    verdict: Verdict
    decisive: Effect
    effects: Sequence[Effect]


def judge_claim(differences: Mapping[str, Floats], region: Region, *, any_suffices: bool = False) -> Finding:
    """The verdict of paired effects.

    Args:
        differences: by value of what varies, the effect of each common seed (n,).
        region: where effects must lie.
        any_suffices: whether one value in the region makes the claim true, as in "can"; else all must be there.
    """
    order = sorted(differences, key=lambda value: -_clearness(differences[value], region))
    effects: dict[str, Effect] = {}
    level, open_ = 1.0, True
    for rank, value in enumerate(order):
        if open_:
            level = 1 - LEVEL_OF_TESTS / (len(order) - rank)
        effects[value] = _measure(value, differences[value], region, level)
        open_ = open_ and effects[value].verdict != INCONCLUSIVE
    found = [effects[value] for value in differences]
    one, every = (SUPPORTED, CONTRADICTED) if any_suffices else (CONTRADICTED, SUPPORTED)
    verdicts = [effect.verdict for effect in found]
    verdict = one if one in verdicts else every if set(verdicts) == {every} else INCONCLUSIVE
    deciding = [effect for effect in found if effect.verdict == verdict] or found
    inside = 1 if any_suffices else -1
    decisive = max(deciding, key=lambda effect: inside * _depth(effect.mean, region))
    return Finding(verdict, decisive, found)


def measure_effect(value: str, differences: Floats) -> Effect:
    """An effect (n,) of paired seeds with its 95 % interval, about which nothing is claimed."""
    return _measure(value, differences, Region("", -math.inf, math.inf), 1 - LEVEL_OF_TESTS)


def _clearness(differences: Floats, region: Region) -> float:
    """How many standard errors the mean is from the nearest end of the region."""
    if len(differences) < FEWEST_SEEDS:
        return -math.inf
    distance = region.distance(float(differences.mean()))
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return distance / error if error else math.inf


def _depth(effect: float, region: Region) -> float:
    """The distance to the nearest end of the region, negative outside of it; NaN counts as far outside."""
    if math.isnan(effect):
        return -math.inf
    return region.distance(effect) * (1 if region.low < effect < region.high else -1)


def _measure(value: str, differences: Floats, region: Region, level: float) -> Effect:
    n = len(differences)
    mean = float(np.mean(differences)) if n else math.nan
    if n < FEWEST_SEEDS:
        return Effect(value, mean, math.nan, math.nan, n, INCONCLUSIVE, None, differences.tolist())
    deviation = float(differences.std(ddof=1))
    half = _half_width(deviation, n, level)
    # Differences that do not vary have no t; that they are all on one side has the probability 2 / 2^n by chance alone.
    known = varies(differences, float(np.abs(differences).max())) or 2 ** (1 - n) < LEVEL_OF_TESTS
    verdict: Verdict = region.judge(mean - half, mean + half) if known else INCONCLUSIVE
    needed = _count_needed(deviation, n, level, region.distance(mean)) if verdict == INCONCLUSIVE else None
    return Effect(value, mean, mean - half, mean + half, n, verdict, needed, differences.tolist())


def _half_width(deviation: float, n: int, level: float) -> float:
    return t_quantile((1 + level) / 2, n - 1) * deviation / math.sqrt(n)


def _count_needed(deviation: float, n: int, level: float, distance: float) -> int | None:
    """The fewest seeds, more than n, whose interval is narrower than the distance to either side."""
    if _half_width(deviation, _MOST_SEEDS, level) >= distance:
        return None
    low, high = n, _MOST_SEEDS  # the width falls with n: halve
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _half_width(deviation, middle, level) < distance else (middle, high)
    return high
