"""Arms, and with which other each is compared.

Arms are paired by seed: with one seed they share start, batches and crops, so what seeds add to both is gone from the
difference. An arm's baseline has the regularizer `none` and every other setting equal; an arm of another optimizer is
also set against the SGD arm of the same regularizer, where there is exactly one that equals it in all else. Settings
that were tuned for each arm apart may differ: best is compared with best.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.config import AXES
from bench.config.identity import ADDED_LATER, shared_key, shorten_hash, show_setting
from bench.errors import UsageError
from bench.measure import QUALITIES
from bench.measure.arrays import Floats
from bench.status import Status

METRICS = list(QUALITIES)

Row = Mapping[str, str]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Arm:
    """An arm: its words, all its settings, and its finished runs' values of each metric by seed, NaN for none."""

    words: dict[str, str]
    settings: Settings
    values: dict[int, Floats] = field(default_factory=dict)
    unfinished: dict[int, str] = field(default_factory=dict)  # failed or diverged, by seed
    tuned: tuple[str, ...] = ()  # settings that each arm has of its own, of an optimizer's without its name

    @property
    def arm_id(self) -> str:
        """As in the tables."""
        return self.words["arm_id"]

    @property
    def place(self) -> tuple[str, str]:
        """Its dataset and model: where arms compare."""
        return self.words["dataset"], self.words["model"]

    def show_tuned(self) -> list[str]:
        """Its own settings, as `key=value`."""
        return [show_setting(key, value) for key, value in self.settings.items() if shared_key(key) in self.tuned]

    def describe_unfinished(self) -> list[str]:
        """How many of its runs failed, and how many diverged: as `2 diverged`."""
        return [f"{n} {status}" for status, n in Counter(self.unfinished.values()).items()]


def read_arms(rows: Iterable[Row], settings: Mapping[str, Settings]) -> dict[str, Arm]:
    """The arms of the rows of runs.csv, by arm_id, in the order of the rows; `settings` is what arms.json holds."""
    arms: dict[str, Arm] = {}
    for row in rows:
        identifier = row["arm_id"]
        words = {key: row[key] for key in (*AXES, "settings", "arm_id")}
        own = tuple(row.get("tuned", "").split())
        arm = arms.setdefault(identifier, Arm(words, settings.get(identifier, {}), tuned=own))
        if row["status"] == Status.DONE:
            arm.values[int(row["seed"])] = np.array([float(row.get(metric) or "nan") for metric in METRICS])
        else:
            arm.unfinished[int(row["seed"])] = row["status"]
    return arms


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

    Words name regularizers, optimizers and classes of the user's own; of these it is what both have: each optimizer
    has a learning rate.
    """
    ours, theirs = ({shared_key(key): (key, each.settings[key]) for key in each.settings} for each in (arm, other))
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


def pair_with_arm(arms: Mapping[str, Arm], other: Arm) -> list[tuple[Arm, Arm]]:
    """Each other arm of its dataset and model with this one."""
    return [(arm, other) for arm in arms.values() if arm is not other and arm.place == other.place]


def pair_with_baseline(arms: Mapping[str, Arm], baseline: str) -> Iterable[tuple[Arm, Arm]]:
    """Each arm with that of the regularizer `baseline` that equals it in all else.

    Raises:
        UsageError: no arm has that regularizer, or several are as near.
    """
    by_rest = group(check_baseline(arms, baseline), ("regularizer",))
    for arm in arms.values():
        like = [other for other in by_rest[rest(arm, ("regularizer",))] if _shares_sources(arm, other)]
        if arm in like:
            continue
        most = max(map(_count_sources, like), default=0)  # of the user's own classes, as many as may be are the arm's
        like = [other for other in like if _count_sources(other) == most]
        if len(like) > 1 and arm.tuned:  # tuned anew: which of them is the best is not known here
            continue
        if len(like) > 1:
            several = ", ".join(f"{other.arm_id} ({shorten_hash(other.words['settings'])})" for other in like)
            raise UsageError(f"several arms are called {baseline}: {several}.\nName one by its arm_id: --baseline ID")
        for other in like:
            yield arm, other


def pair_with_sgd(arms: Mapping[str, Arm]) -> Iterable[tuple[Arm, Arm]]:
    """Each arm of another optimizer with the one SGD arm that equals it in all else."""
    sgd = group((arm for arm in arms.values() if arm.words["optimizer"] == "sgd"), ("optimizer",))
    for arm in arms.values():
        if arm.words["optimizer"] != "sgd":
            like = [other for other in sgd[rest(arm, ("optimizer",))] if _shares_sources(arm, other)]
            if len(like) == 1:
                yield arm, like[0]


def group(arms: Iterable[Arm], axes: Sequence[str]) -> dict[str, list[Arm]]:
    """Arms that equal each other in all but some axes."""
    groups: dict[str, list[Arm]] = defaultdict(list)
    for arm in arms:
        groups[rest(arm, axes)].append(arm)
    return groups


def rest(arm: Arm, axes: Sequence[str]) -> str:
    """All settings but those of some axes and those tuned for the arm, as text.

    The source of a user's own class may belong to any axis.
    """
    if not arm.settings:  # of a table that came without its arms.json: like no other
        return arm.arm_id
    left_out = (*axes, "source")
    settings = {key: value for key, value in arm.settings.items() if shared_key(key) not in arm.tuned}
    rest = {key: value for key, value in settings.items() if key.partition(".")[0] not in left_out}
    return json.dumps(rest, sort_keys=True)


def _shares_sources(arm: Arm, baseline: Arm) -> bool:
    """Whether the user's own classes of the baseline are the arm's, too, to the letter."""
    return all(arm.settings.get(k) == value for k, value in baseline.settings.items() if k.startswith("source."))


def _count_sources(arm: Arm) -> int:
    return sum(key.startswith("source.") for key in arm.settings)


def contains(stack: Arm, part: Arm) -> bool:
    """Whether every setting of a part's regularizers is the stack's, too."""
    own = re.compile(r"regularizer\.(?!none\.)")
    settings = {key: value for key, value in part.settings.items() if own.match(key)}
    return _shares_sources(stack, part) and all(stack.settings.get(key) == value for key, value in settings.items())
