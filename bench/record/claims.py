"""claims.csv and effects.csv of an experiment: claims, their verdicts, and the paired effects that these rest on.

effects.csv says which arm was compared with which, so that verdicts can be made again from runs.csv alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.config.claim import Claim
from bench.config.identity import shorten, show_setting
from bench.disk.files import to_csv, write_atomically
from bench.disk.lock import wait_for
from bench.errors import UsageError
from bench.evidence.claim import Effect, Finding, judge_claim, measure_effect, parse_region
from bench.measure import QUALITIES
from bench.measure.arrays import Floats
from bench.measure.quantities import COSTS
from bench.record.experiment import Experiment
from bench.record.read_tables import Row
from bench.status import Status

CLAIM_COLUMNS = [
    *("id", "claim", "dataset", "model", "measure", "threshold", "effect", "low", "high", "seeds", "verdict"),
    *("seeds_needed", "gradient_evaluations", "value"),
]
EFFECT_COLUMNS = [
    *("id", "dataset", "model", "value", "arm_id", "baseline", "measure", "effect", "low", "high", "seeds", "verdict"),
    "seeds_needed",
]
_KEY = ("id", "dataset", "model")


@dataclass(frozen=True)
class Pair:
    """An arm that a claim is about, and the one that it is compared with; `value` names it among the claim's arms."""

    value: str
    arm: str
    baseline: str


@dataclass(frozen=True)
class Judged:
    """A claim on one dataset and model: its pairs of arms, its finding, and the effects by the measures beside."""

    claim: Claim
    place: tuple[str, str]
    pairs: Sequence[Pair]
    finding: Finding
    beside: Mapping[str, Sequence[Effect]]
    gradient_evaluations: int


def find_pairs(claim: Claim, arms: Mapping[str, Mapping[str, Any]]) -> list[Pair]:
    """The claim's arms among these settings by arm_id, each with the nearest of those that it is compared with.

    Raises:
        UsageError: there are none, or several are as near.
    """
    chosen = [arm for arm, settings in arms.items() if _matches(settings, claim.arm)]
    others = [arm for arm, settings in arms.items() if _matches(settings, claim.against) and arm not in chosen]
    if not chosen or not others:
        which, selector = ("arm", claim.arm) if not chosen else ("against", claim.against)
        raise UsageError(f"claim {claim.id}: no arm has the settings of claim.{which}: {dict(selector)}.")
    varying = {key for arm in chosen for key in arms[arm] if len({str(arms[each].get(key)) for each in chosen}) > 1}
    pairs = []
    for arm in chosen:
        apart = {other: _count_differences(arms[arm], arms[other]) for other in others}
        nearest = [other for other in others if apart[other] == min(apart.values())]
        if len(nearest) > 1:
            raise UsageError(f"claim {claim.id}: several arms are as near to {arm}: {', '.join(nearest)}.")
        own = [show_setting(key, arms[arm][key]) for key in arms[arm] if key in varying and "_target_" not in key]
        pairs.append(Pair(" ".join(shorten(own, arms[arm]["regularizer"])), arm, nearest[0]))
    return pairs


def _matches(settings: Mapping[str, Any], selector: Mapping[str, Any]) -> bool:
    of_key = ((key, value if isinstance(value, list) else [value]) for key, value in selector.items())
    return all(key in settings and settings[key] in values for key, values in of_key)


def _count_differences(arm: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    keys = {key for key in {*arm, *other} if not key.startswith("regularizer.")}
    return sum(str(arm.get(key)) != str(other.get(key)) for key in keys)


def judge(claim: Claim, experiment: Experiment, pairs: Sequence[Pair]) -> Judged:
    """The claim, judged by the runs of these arms."""
    arms = {arm for pair in pairs for arm in (pair.arm, pair.baseline)}
    rows = [row for row in experiment.rows if row["arm_id"] in arms]
    ratio = claim.effect == "ratio"
    effects = {pair.value: _pair_seeds(rows, pair, claim.measure, ratio=ratio) for pair in pairs}
    finding = judge_claim(effects, parse_region(claim.region), any_suffices=claim.any_suffices)
    beside = {
        column: [measure_effect(pair.value, _pair_seeds(rows, pair, column)) for pair in pairs]
        for column in claim.beside
    }
    place = next(((row["dataset"], row["model"]) for row in rows), ("", ""))
    return Judged(claim, place, pairs, finding, beside, sum(int(row["gradient_evaluations"] or 0) for row in rows))


def _pair_seeds(rows: Iterable[Row], pair: Pair, column: str, *, ratio: bool = False) -> Floats:
    """The effect (n,) of each seed that both arms have finished with a number in the column."""
    values: dict[str, dict[str, float]] = {pair.arm: {}, pair.baseline: {}}
    for row in rows:
        if row["arm_id"] in values and row["status"] == Status.DONE and row.get(column):
            values[row["arm_id"]][row["seed"]] = float(row[column])
    ours, theirs = values[pair.arm], values[pair.baseline]
    seeds = [seed for seed in ours if seed in theirs]
    return np.array([ours[each] / theirs[each] if ratio else ours[each] - theirs[each] for each in seeds])


def check_measures(claim: Claim) -> None:
    """Raises UsageError where runs.csv has no such column, or the region is none."""
    known = QUALITIES | COSTS
    for column in claim.measures:
        if column not in known:
            raise UsageError(f"claim {claim.id}: there is no measure {column}.\nThere are: {', '.join(known)}")
    try:
        parse_region(claim.region)
    except ValueError as error:
        raise UsageError(f"claim {claim.id}: {error}.") from error


def write_claims(experiment: Experiment, judged: Sequence[Judged]) -> None:
    """Writes claims.csv and effects.csv; rows of other claims, and of other data and models, stay."""
    with wait_for(experiment.folder):
        for table, columns, make in (("claims", CLAIM_COLUMNS, _claim_rows), ("effects", EFFECT_COLUMNS, _effect_rows)):
            new = [row for each in judged for row in make(each)]
            anew = {tuple(row[key] for key in _KEY) for row in new}
            kept = [row for row in experiment.read(table) if tuple(row[key] for key in _KEY) not in anew]
            write_atomically(experiment.folder / f"{table}.csv", to_csv(columns, sorted([*kept, *new], key=_order)))


def _order(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[key] for key in ("dataset", "model", "id"))


def _claim_rows(each: Judged) -> list[dict[str, Any]]:
    claim, effect = each.claim, each.finding.decisive
    where = dict(zip(_KEY, (claim.id, *each.place), strict=True))
    texts = {"claim": claim.statement, "measure": claim.measure, "threshold": claim.region, "value": effect.value}
    counts = {"seeds": effect.seeds, "gradient_evaluations": each.gradient_evaluations}
    return [{**where, **texts, **_numbers(effect), **counts, "verdict": each.finding.verdict}]


def _effect_rows(each: Judged) -> list[dict[str, Any]]:
    where = dict(zip(_KEY, (each.claim.id, *each.place), strict=True))
    rows = []
    for column, effects in {each.claim.measure: each.finding.effects, **each.beside}.items():
        for pair, effect in zip(each.pairs, effects, strict=True):
            arms = {"value": pair.value, "arm_id": pair.arm, "baseline": pair.baseline, "measure": column}
            verdict = effect.verdict if column == each.claim.measure else None
            rows.append({**where, **arms, **_numbers(effect), "seeds": effect.seeds, "verdict": verdict})
    return rows


def _numbers(effect: Effect) -> dict[str, float | None]:
    numbers = {"effect": effect.mean, "low": effect.low, "high": effect.high}
    return {key: None if np.isnan(value) else value for key, value in numbers.items()} | {
        "seeds_needed": effect.seeds_needed
    }


def read_pairs(experiment: Experiment) -> dict[tuple[str, str, str], list[Pair]]:
    """The pairs of effects.csv by claim, dataset and model."""
    found: dict[tuple[str, str, str], dict[Pair, None]] = {}
    for row in experiment.read("effects"):
        key = (row["id"], row["dataset"], row["model"])
        found.setdefault(key, {})[Pair(row["value"], row["arm_id"], row["baseline"])] = None
    return {key: [*pairs] for key, pairs in found.items()}
