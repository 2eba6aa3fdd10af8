"""Arms against their baseline, over the seeds that both have: the rows of comparison.csv, and interactions.

Arms are paired by seed: with one seed they share start, batches and crops, so what seeds add to both is gone from the
difference. An arm's baseline has the regularizer `none` and every other setting equal; an arm of another optimizer is
also set against the SGD arm of the same regularizer, where there is exactly one that equals it in all else.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench import AXES, UsageError
from bench.metric import Floats
from bench.quantities import QUALITIES
from bench.record import ADDED_LATER, shorten_hash, show_setting
from bench.stats import FEWEST_SEEDS, PairedTest, holm, paired_t, share_improved

COMPARISON_COLUMNS = [
    *(*AXES, "settings", "arm_id", "baseline", "metric", "seeds", "difference", "low", "high", "p", "p_holm"),
    *("improved", "note"),
]
_METRICS = list(QUALITIES)
MAIN_METRICS = ("test_accuracy", "test_nll", "test_ece")

Row = Mapping[str, str]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Arm:
    """An arm: its words, all its settings, and its finished runs' values of each metric by seed, NaN for none."""

    words: dict[str, str]
    settings: Settings
    values: dict[int, Floats] = field(default_factory=dict)
    unfinished: dict[str, int] = field(default_factory=dict)  # how many runs failed, and how many diverged

    @property
    def arm_id(self) -> str:
        """As in the tables."""
        return self.words["arm_id"]


def read_arms(rows: Iterable[Row], settings: Mapping[str, Settings]) -> dict[str, Arm]:
    """The arms of the rows of runs.csv, by arm_id, in the order of the rows; `settings` is what arms.json holds."""
    arms: dict[str, Arm] = {}
    for row in rows:
        identifier = row["arm_id"]
        words = {key: row[key] for key in (*AXES, "settings", "arm_id")}
        arm = arms.setdefault(identifier, Arm(words, settings.get(identifier, {})))
        if row["status"] == "done":
            arm.values[int(row["seed"])] = np.array([float(row.get(metric) or "nan") for metric in _METRICS])
        else:
            arm.unfinished[row["status"]] = arm.unfinished.get(row["status"], 0) + 1
    return arms


def compare(arms: Mapping[str, Arm], baseline: str = "none", metrics: Sequence[str] = _METRICS) -> list[dict[str, Any]]:
    """The rows of comparison.csv: a row for each arm, what it is compared with, and each metric that one of them has.

    Args:
        arms: of `read_arms`.
        baseline: a regularizer as in the tables, for arms that equal it in all else; or the arm_id of one with which
            all other arms of its dataset and model are compared, whatever they differ in.
        metrics: columns of runs.csv; those that are no quality of an arm are left out.

    Raises:
        UsageError: no arm is called so, or several that equal each other in all but their regularizers' settings.
    """
    if baseline in arms:
        pairs = _pair_with_arm(arms, arms[baseline])
    else:
        pairs = [*_pair_with_baseline(arms, baseline), *_pair_with_sgd(arms)]
    rows = [row for arm, other in pairs for row in _compare_pair(arm, other, metrics)]
    families: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        families[row["baseline"], row["metric"]].append(row)
    for family in families.values():
        for row, corrected in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = corrected
    return [{key: _none_for_nan(value) for key, value in row.items()} for row in rows]


def interactions(arms: Mapping[str, Arm]) -> list[dict[str, Any]]:
    """What a stack of two does beyond the sum of what each does, per metric, where all four cells exist.

    Per seed it is stack - first - second + none, of arms that are alike in every setting that they share. Rows are like
    those of `compare`, with the interaction as `difference`; `baseline` and `improved` are left out.
    """
    by_rest = _group(arms.values(), ("regularizer",))
    rows = []
    for stack in arms.values():
        parts = stack.words["regularizer"].split("+")
        if len(parts) != 2:
            continue
        like = [arm for arm in by_rest[_rest(stack, ("regularizer",))] if _contains(stack, arm)]
        cells = [[arm for arm in like if arm.words["regularizer"] == word] for word in (*parts, "none")]
        if all(len(cell) == 1 for cell in cells):
            first, second, none = (cell[0] for cell in cells)
            rows += _interaction(stack, first, second, none)
    return rows


def _interaction(stack: Arm, first: Arm, second: Arm, none: Arm) -> list[dict[str, Any]]:
    four = (stack, first, second, none)
    seeds = [seed for seed in stack.values if all(seed in arm.values for arm in four)]
    unfinished = [f"{n} {status} of {arm.words['regularizer']}" for arm in four for status, n in arm.unfinished.items()]
    rows: list[dict[str, Any]] = []
    for i, metric in enumerate(_METRICS):
        cells = np.array([[arm.values[seed][i] for arm in four] for seed in seeds]).reshape(-1, 4)
        test = _test(cells, (1, -1, -1, 1))
        if not seeds and metric in MAIN_METRICS:
            test = {"seeds": 0, **dict.fromkeys(PairedTest._fields, math.nan), "note": "no common seeds"}
        if test:
            note = "; ".join(filter(None, [test["note"], *unfinished]))
            row = {**stack.words, "metric": metric, **test, "note": note}
            rows.append({key: _none_for_nan(value) for key, value in row.items()})
    return rows


def check_baseline(arms: Mapping[str, Arm], baseline: str) -> list[Arm]:
    """The arms that a baseline names; there may be none of `none`.

    Raises:
        UsageError: no arm has that regularizer or arm_id.
    """
    named = [arm for arm in arms.values() if baseline in (arm.arm_id, arm.words["regularizer"])]
    if not named and baseline != "none":
        words = dict.fromkeys(arm.words["regularizer"] for arm in arms.values())
        raise UsageError(f"no arm here has the regularizer or the arm_id {baseline}.\nThere are: {', '.join(words)}")
    return named


def name_differences(arm: Arm, other: Arm) -> list[str]:
    """The settings in which an arm differs from another beyond its words, as `key=value`.

    Words tell of regularizers, optimizers and classes of the user's own; of these it is what both have: each optimizer
    has a learning rate.
    """
    ours, theirs = ({_shared_key(key): (key, each.settings[key]) for key in each.settings} for each in (arm, other))
    named = []
    for shared in dict.fromkeys([*ours, *theirs]):
        told_by_words = shared.partition(".")[0] in ("regularizer", "optimizer", "source")
        if (
            shared in AXES
            or shared.endswith("._target_")
            or (told_by_words and not (shared in ours and shared in theirs))
        ):
            continue
        unset = (shared, ADDED_LATER.get(shared))
        key, value = ours.get(shared, unset)
        if str(value) != str(theirs.get(shared, unset)[1]):
            named.append(show_setting(key, value))
    return named


def _shared_key(key: str) -> str:
    """A setting's key; of an optimizer's without the optimizer's name."""
    return re.sub(r"^optimizer\.[^.]+\.", "optimizer.", key)


def _pair_with_arm(arms: Mapping[str, Arm], other: Arm) -> list[tuple[Arm, Arm]]:
    place = [other.words[axis] for axis in ("dataset", "model")]
    return [(a, other) for a in arms.values() if a is not other and [a.words[x] for x in ("dataset", "model")] == place]


def _pair_with_baseline(arms: Mapping[str, Arm], baseline: str) -> Iterable[tuple[Arm, Arm]]:
    by_rest = _group(check_baseline(arms, baseline), ("regularizer",))
    for arm in arms.values():
        like = [other for other in by_rest[_rest(arm, ("regularizer",))] if _shares_sources(arm, other)]
        if arm in like:
            continue
        most = max(map(_count_sources, like), default=0)  # of the user's own classes, as many as may be are the arm's
        like = [other for other in like if _count_sources(other) == most]
        if len(like) > 1:
            several = ", ".join(f"{other.arm_id} ({shorten_hash(other.words['settings'])})" for other in like)
            raise UsageError(f"several arms are called {baseline}: {several}.\nName one by its arm_id: --baseline ID")
        for other in like:
            yield arm, other


def _pair_with_sgd(arms: Mapping[str, Arm]) -> Iterable[tuple[Arm, Arm]]:
    sgd = _group((arm for arm in arms.values() if arm.words["optimizer"] == "sgd"), ("optimizer",))
    for arm in arms.values():
        if arm.words["optimizer"] != "sgd":
            like = [other for other in sgd[_rest(arm, ("optimizer",))] if _shares_sources(arm, other)]
            if len(like) == 1:
                yield arm, like[0]


def _group(arms: Iterable[Arm], axes: Sequence[str]) -> dict[str, list[Arm]]:
    groups: dict[str, list[Arm]] = defaultdict(list)
    for arm in arms:
        groups[_rest(arm, axes)].append(arm)
    return groups


def _rest(arm: Arm, axes: Sequence[str]) -> str:
    """All settings but those of some axes, as text; the source of a user's own class may belong to any axis."""
    if not arm.settings:  # of a table that came without its arms.json: like no other
        return arm.arm_id
    left_out = (*axes, "source")
    rest = {key: value for key, value in arm.settings.items() if key.partition(".")[0] not in left_out}
    return json.dumps(rest, sort_keys=True)


def _shares_sources(arm: Arm, baseline: Arm) -> bool:
    """Whether the user's own classes of the baseline are the arm's, too, to the letter."""
    return all(arm.settings.get(k) == value for k, value in baseline.settings.items() if k.startswith("source."))


def _count_sources(arm: Arm) -> int:
    return sum(key.startswith("source.") for key in arm.settings)


def _contains(stack: Arm, part: Arm) -> bool:
    """Whether every setting of a part's regularizers is the stack's, too."""
    own = re.compile(r"regularizer\.(?!none\.)")
    settings = {key: value for key, value in part.settings.items() if own.match(key)}
    return _shares_sources(stack, part) and all(stack.settings.get(key) == value for key, value in settings.items())


def _compare_pair(arm: Arm, baseline: Arm, metrics: Sequence[str]) -> Iterable[dict[str, Any]]:
    """A row for each metric that both have; where no seed is common, rows that say so."""
    who, unfinished = {**arm.words, "baseline": baseline.arm_id}, _tell_unfinished(arm, baseline)
    seeds = [seed for seed in arm.values if seed in baseline.values]
    if not seeds:
        note = "; ".join(["no common seeds", *unfinished])
        yield from ({**who, "metric": metric, "seeds": 0, "p": math.nan, "note": note} for metric in MAIN_METRICS)
    values = np.array([[arm.values[seed], baseline.values[seed]] for seed in seeds])
    for metric in (each for each in metrics if seeds and each in QUALITIES):
        pairs = values[:, :, _METRICS.index(metric)]
        test = _test(pairs, (1, -1))
        if test:
            pairs = pairs[~np.isnan(pairs).any(axis=1)]
            improved = float(share_improved(QUALITIES[metric].gain(*pairs.T)))
            note = "; ".join(filter(None, [test["note"], *unfinished]))
            yield {**who, "metric": metric, **test, "improved": improved, "note": note}


def _test(cells: Floats, weights: Sequence[int]) -> dict[str, Any]:
    """A paired test of the weighted sum of the cells of each seed (n, cells); none where no seed has all of them."""
    cells = cells[~np.isnan(cells).any(axis=1)]
    if len(cells) == 0:
        return {}
    result = paired_t(cells @ np.array(weights, dtype=np.float64), float(np.abs(cells).max()))
    note = ""
    if math.isnan(result.p):
        few = len(cells) < FEWEST_SEEDS
        note = f"fewer than {FEWEST_SEEDS} common seeds" if few else "the differences do not vary"
    return {"seeds": len(cells), **result._asdict(), "note": note}


def _tell_unfinished(arm: Arm, baseline: Arm) -> list[str]:
    ours = [f"{n} {status}" for status, n in arm.unfinished.items()]
    return ours + [f"{n} {status} of the baseline" for status, n in baseline.unfinished.items()]


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
