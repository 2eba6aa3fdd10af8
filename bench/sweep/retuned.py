"""A tuned experiment's results hold each arm once: what was tuned anew gets a name of its own.

An arm at two learning rates would be compared with two baselines, which is with none.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from bench.config.identity import arm_id, identity
from bench.config.settings import Run
from bench.errors import UsageError
from bench.evidence.pairing import Arm, rest
from bench.record.experiment import Experiment


def check_tuned_once(results: Path, exp: str, runs: Sequence[Run], tuned: tuple[str, ...]) -> None:
    """Raises UsageError where an experiment has results of an arm of these runs at other values of what was tuned.

    Args:
        results: the folder of results.
        exp: the experiment's name.
        runs: with all that makes their identity.
        tuned: the settings that each arm has of its own; where there are none nothing is checked.
    """
    if not tuned:
        return
    arms = {arm_id(run): {key: value for key, value in identity(run).items() if key != "seed"} for run in runs}
    asked = [Arm({"arm_id": i}, each, tuned=tuned) for i, each in arms.items()]
    by_rest = {rest(arm, ()): arm for arm in asked}
    for each in Experiment.load(results, exp).arms.values():
        old = replace(each, tuned=tuned)
        new = by_rest.get(rest(old, ()))
        if new and old.arm_id not in arms and old.show_tuned() != new.show_tuned():
            name = next(name for n in count(2) if not (results / (name := f"{exp}_{n}")).exists())
            raise UsageError(
                f"{results / exp} has {old.words['regularizer']} with {' '.join(old.show_tuned())}, of an earlier "
                f"tuning; now it is {' '.join(new.show_tuned())}.\nAn arm that is there twice is compared with "
                f"nothing. Give what was tuned anew a name of its own, beside +exp: exp={name}"
            )
