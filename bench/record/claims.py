"""claims.csv and effects.csv of an experiment: claims, their verdicts, and the paired effects that these rest on.

effects.csv says which arm was compared with which, so that verdicts can be made again from runs.csv alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.config import AXES
from bench.config.claim import Claim
from bench.config.identity import ADDED_LATER, shorten, show_setting
from bench.disk.files import to_csv, write_atomically
from bench.disk.lock import wait_for
from bench.errors import UsageError
from bench.evidence.claim import Effect, Finding, judge_claim, measure_effect, parse_region
from bench.measure import QUALITIES
from bench.measure.arrays import Floats
from bench.measure.probed import PROBED
from bench.measure.quantities import COSTS
from bench.record.experiment import Experiment
from bench.record.read_tables import Row
from bench.status import Status

CLAIM_COLUMNS = [
    *("id", "claim", "dataset", "model", "measure", "threshold", "effect", "low", "high", "seeds", "verdict"),
    *("seeds_needed", "gradient_evaluations", "value"),
]
EFFECT_COLUMNS = [
    *("id", "dataset", "model", "number", "value", "arm_id", "baseline", "measure", "effect", "low", "high", "seeds"),
    *("verdict", "seeds_needed"),
]
_KEY = ("id", "dataset", "model")


@dataclass(frozen=True)
class Pair:
    """An arm that a claim is about, and the one that it is compared with; `value` names it among the claim's arms."""

    value: str
    arm: str
    baseline: str


@dataclass(frozen=True)
class Compared:
    """The pairs of a claim, or of what stands beside it, with their effects by its measure."""

    measure: str
    pairs: Sequence[Pair]
    effects: Sequence[Effect]


@dataclass(frozen=True)
class Judged:
    """A claim on one dataset and model: its finding, and the effects that it rests on, before those beside.

    Of the runs that decide it `unfinished` diverged or failed, and `measured` have a number in its measure's column.
    """

    claim: Claim
    place: tuple[str, str]
    finding: Finding
    compared: Sequence[Compared]
    gradient_evaluations: int
    unfinished: int
    measured: int


def find_all_pairs(claim: Claim, arms: Mapping[str, Mapping[str, Any]]) -> list[list[Pair]]:
    """The claim's own pairs, then those of each thing beside it: none of what overrides have taken away.

    Raises:
        UsageError: the claim has none of its own.
    """
    found = [find_pairs(claim, arms)]
    for each in claim.beside:
        try:
            found.append(find_pairs(each, arms))
        except UsageError:
            found.append([])
    return found


def find_pairs(claim: Claim, arms: Mapping[str, Mapping[str, Any]]) -> list[Pair]:
    """The claim's arms among these settings by arm_id, each with the nearest of those that it is compared with.

    Raises:
        UsageError: there are none, or several are as near.
    """
    chosen = [arm for arm, settings in arms.items() if _matches(settings, claim.arm)]
    others = [arm for arm, settings in arms.items() if _matches(settings, claim.against) and arm not in chosen]
    if not chosen or not others:
        which, selector = ("arm", claim.arm) if not chosen else ("against", claim.against)
        but = " but those of claim.arm" * (chosen != [] and any(_matches(arms[arm], claim.against) for arm in chosen))
        raise UsageError(
            f"claim {claim.id}: no arm{but} has the settings of claim.{which}: {dict(selector)}.\n"
            "The arms are those of its file and of what was typed: overrides must leave both sides there."
        )
    shared = set.intersection(*({*arms[arm]} for arm in chosen))
    varying = [key for key in arms[chosen[0]] if key in shared and len({str(arms[arm][key]) for arm in chosen}) > 1]
    pairs = []
    for arm in chosen:
        apart = {other: _count_differences(arms[arm], arms[other]) for other in others}
        nearest = [other for other in others if apart[other] == min(apart.values())]
        if len(nearest) > 1:
            raise UsageError(f"claim {claim.id}: several arms are as near to {arm}: {', '.join(nearest)}.")
        words = [arms[arm][key] for key in varying if key in AXES]
        own = [show_setting(key, arms[arm][key]) for key in varying if key not in AXES]
        value = " ".join([*words, *shorten(own, arms[arm]["regularizer"])])
        pairs.append(Pair(value, arm, nearest[0]))
    return pairs


def is_about(claim: Claim, settings: Mapping[str, Any]) -> bool:
    """Whether an arm of these settings is one that the claim is about."""
    return _matches(settings, claim.arm)


def _matches(settings: Mapping[str, Any], selector: Mapping[str, Any]) -> bool:
    """Whether an arm has one of the selector's values of each key; a key that is younger has its neutral value."""
    of_key = ((key, value if isinstance(value, list) else [value]) for key, value in selector.items())
    return all(settings.get(key, ADDED_LATER.get(key, ...)) in values for key, values in of_key)


def _count_differences(arm: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    keys = {key for key in {*arm, *other} if not key.startswith("regularizer.")}
    return sum(str(arm.get(key)) != str(other.get(key)) for key in keys)


def judge(claim: Claim, experiment: Experiment, pairs: Sequence[Sequence[Pair]]) -> Judged:
    """The claim, judged by these pairs of arms: its own, then those of each thing that stands beside it."""
    arms = {arm for each in pairs for pair in each for arm in (pair.arm, pair.baseline)}
    rows = [row for row in experiment.rows if row["arm_id"] in arms]
    ratio = claim.effect == "ratio"
    own = {pair.value: _pair_seeds(rows, pair, claim.measure, ratio=ratio) for pair in pairs[0]}
    finding = judge_claim(own, parse_region(claim.region), any_suffices=claim.any_suffices)
    compared = [Compared(claim.measure, pairs[0], finding.effects)]
    for each, of_each in zip(claim.beside, pairs[1:], strict=False):  # the last may have none
        effects = [measure_effect(pair.value, _pair_seeds(rows, pair, each.measure)) for pair in of_each]
        compared.append(Compared(each.measure, of_each, effects))
    place = next(((row["dataset"], row["model"]) for row in rows), ("", ""))
    deciding = [row for row in rows if row["arm_id"] in {arm for pair in pairs[0] for arm in (pair.arm, pair.baseline)}]
    unfinished = sum(row["status"] != Status.DONE for row in deciding)
    measured = sum(bool(row.get(claim.measure)) for row in deciding)
    evaluations = sum(int(row["gradient_evaluations"] or 0) for row in rows)
    return Judged(claim, place, finding, compared, evaluations, unfinished, measured)


def _pair_seeds(rows: Iterable[Row], pair: Pair, column: str, *, ratio: bool = False) -> Floats:
    """The effect (n,) of each seed that both arms have finished with a number in the column."""
    values: dict[str, dict[str, float]] = {pair.arm: {}, pair.baseline: {}}
    for row in rows:
        if row["arm_id"] in values and row["status"] == Status.DONE and row.get(column):
            values[row["arm_id"]][row["seed"]] = float(row[column])
    ours, theirs = values[pair.arm], values[pair.baseline]
    seeds = [seed for seed in ours if seed in theirs]
    return np.array([ours[each] / theirs[each] if ratio else ours[each] - theirs[each] for each in seeds])


def check_measures(claim: Claim, evaluation: Sequence[str]) -> None:
    """Raises UsageError where runs.csv has no such column, no probe measures it, or the region is none."""
    known = QUALITIES | COSTS
    for each in (claim, *claim.beside):
        if each.measure not in known:
            raise UsageError(f"claim {claim.id}: there is no measure {each.measure}.\nThere are: {', '.join(known)}")
    for probe, columns in PROBED.items():
        if claim.measure in columns and probe not in evaluation:
            raise UsageError(f"claim {claim.id}: nothing measures {claim.measure}.\nIt needs evaluation=[{probe}].")
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
    for number, compared in enumerate(each.compared):
        for pair, effect in zip(compared.pairs, compared.effects, strict=True):
            arms = {"value": pair.value, "arm_id": pair.arm, "baseline": pair.baseline, "measure": compared.measure}
            verdict = None if number else effect.verdict
            of_effect = {**_numbers(effect), "seeds": effect.seeds, "verdict": verdict}
            rows.append({**where, "number": number, **arms, **of_effect})
    return rows


def _numbers(effect: Effect) -> dict[str, float | None]:
    numbers = {"effect": effect.mean, "low": effect.low, "high": effect.high}
    return {key: None if np.isnan(value) else value for key, value in numbers.items()} | {
        "seeds_needed": effect.seeds_needed
    }


def read_pairs(experiment: Experiment) -> dict[tuple[str, str, str], list[list[Pair]]]:
    """The pairs of effects.csv by claim, dataset and model: a claim's own, then those of each thing beside it."""
    found: dict[tuple[str, str, str], list[list[Pair]]] = {}
    for row in experiment.read("effects"):
        of_claim = found.setdefault((row["id"], row["dataset"], row["model"]), [])
        of_claim += [[] for _ in range(int(row["number"]) + 1 - len(of_claim))]
        of_claim[int(row["number"])].append(Pair(row["value"], row["arm_id"], row["baseline"]))
    return found
