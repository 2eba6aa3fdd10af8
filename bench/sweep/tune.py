"""A learning rate for each arm: one sweep over a grid, on seeds of its own, and the least mean validation NLL.

All arms of an optimizer get the same rates: so many, spaced by the square root of 10, around the one that the
experiment gives the optimizer. Where the best one of any arm is at an end of the grid, the grid goes on that way, for
all arms of that optimizer alike, until none is or the grid has grown by _FURTHEST rates. A mean over seeds of which one
diverged is infinite. The test split has no part in it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console

from bench.config.identity import arm_id, run_id
from bench.config.settings import Run, apply_settings
from bench.console.lines import print_line
from bench.dataset import split_source
from bench.errors import UsageError
from bench.record.folder import read_result, run_folder
from bench.status import Status
from bench.sweep.command import Launch, train_missing
from bench.sweep.describe import name_arms
from bench.sweep.plan import Command, complete, load_data

FIRST_SEED = 1000
_FACTOR = 10**0.5
_FURTHEST = 4  # each way

Steps = dict[str, list[int]]  # of each optimizer's grid, 0 for the rate that it has; ascending


@dataclass
class Arm:
    """An arm of the experiment, and what was measured of it: mean validation NLL by the steps of its optimizer's grid.

    `overrides` are Hydra's, of the first of its runs.
    """

    run: Run
    overrides: tuple[str, ...]
    name: str = ""
    nll: dict[int, float] = field(default_factory=dict)

    @property
    def optimizer(self) -> str:
        """The key of its grid."""
        return self.run.optimizer.name

    @property
    def best(self) -> int:
        """The step with the least NLL; of equal ones the lowest."""
        return min(sorted(self.nll), key=self.nll.__getitem__)

    @property
    def edge(self) -> str:
        """At which end of the grid the best step is, if at one."""
        return {min(self.nll): "lowest", max(self.nll): "highest"}.get(self.best, "")

    def rate(self, step: int) -> float:
        """The learning rate at a step, to three figures where it is not the experiment's."""
        middle: float = self.run.optimizer.values["lr"]
        return middle if step == 0 else float(f"{middle * _FACTOR**step:.3g}")


def find_arms(command: Command, seeds: Sequence[int]) -> list[Arm]:
    """The arms of a command.

    Raises:
        UsageError: they cannot be tuned: no validation images, no learning rate or several, or seeds that are the
            experiment's, too.
    """
    arms: dict[str, Arm] = {}
    for run, overrides in zip(command.runs, command.combinations, strict=True):
        if "lr" not in run.optimizer.values:
            raise UsageError(f"optimizer {run.optimizer.name} has no lr to tune.\nChoose others: optimizer=sgd,adam")
        arms.setdefault(arm_id(_at(run, 1.0, 0)), Arm(run, overrides))
    _check_rates(command.runs)
    both = {run.seed for run in command.runs}.intersection(seeds)
    if both:
        raise UsageError(
            f"the experiment has seed {min(both)}, which is one of those to tune on ({seeds[0]} to {seeds[-1]}).\n"
            f"Give it others, below {FIRST_SEED}: seed=0,1,2,3,4"
        )
    for arm in arms.values():
        _check_validation(arm.run)
    runs = [arm.run for arm in arms.values()]
    for arm, name in zip(arms.values(), name_arms(runs, runs), strict=True):
        arm.name = name or arm.run.regularizer
    return [*arms.values()]


def tune(
    command: Command, arms: Sequence[Arm], seeds: Sequence[int], trials: int, launch: Launch, console: Console
) -> bool:
    """Trains the arms at all rates of their grids, and fills in their NLL; whether all of it is on record.

    Of an even number of rates one more lies above the middle than below. What is on record is not trained again, so the
    same command goes on where an interrupted one stopped.

    Raises:
        UsageError: something is wrong with one of the runs; nothing was trained.
        Interrupted: a signal asked to stop; what is on record stays.
    """
    first = list(range(-((trials - 1) // 2), trials // 2 + 1))
    steps: Steps = {arm.optimizer: first for arm in arms}
    while any(steps.values()):
        trained = [(arm, step) for arm in arms for step in steps[arm.optimizer]]
        runs = [_at(arm.run, arm.rate(step), seed) for arm, step in trained for seed in seeds]
        outcome = train_missing(command._replace(runs=runs, tuned=()), launch, console)
        if outcome.missing or not _read(command, trained, seeds):
            print_line(console, "Some runs failed or are not recorded: no learning rate is chosen.")
            return False
        steps = {optimizer: [*_extend(arms, optimizer, first, console)] for optimizer in steps}
    return True


def _at(run: Run, rate: float, seed: int) -> Run:
    values: Mapping[str, Any] = {**run.optimizer.values, "lr": rate}
    return replace(run, seed=seed, optimizer=replace(run.optimizer, values=values))


def _read(command: Command, trained: Iterable[tuple[Arm, int]], seeds: Sequence[int]) -> bool:
    """Fills in what was measured; False where a run failed."""
    for arm, step in trained:
        whole, values = complete(arm.run, command.launcher), []
        for seed in seeds:
            result = read_result(run_folder(command.results, run_id(_at(whole, arm.rate(step), seed))))
            if result is None or result["status"] == Status.FAILED:
                return False
            values.append(math.inf if result["status"] == Status.DIVERGED else float(result["val_nll"]))
        mean = sum(values) / len(values)
        arm.nll[step] = mean if math.isfinite(mean) else math.inf
    return True


def _extend(arms: Sequence[Arm], optimizer: str, first: Sequence[int], console: Console) -> Iterator[int]:
    """The steps by which an optimizer's grid goes on; prints why."""
    of_grid = [arm for arm in arms if arm.optimizer == optimizer]
    low, high = min(of_grid[0].nll), max(of_grid[0].nll)
    for edge, step, left in (
        ("lowest", low - 1, first[0] - low < _FURTHEST),
        ("highest", high + 1, high - first[-1] < _FURTHEST),
    ):
        winners = [arm.name for arm in of_grid if arm.edge == edge]
        if winners and left:
            print_line(
                console,
                f"The best learning rate of {', '.join(winners)} is the {edge} of the grid, which goes on to "
                f"{of_grid[0].rate(step):g} for all arms of {optimizer}.",
            )
            yield step


def _check_rates(runs: Iterable[Run]) -> None:
    rates: dict[str, float] = {}
    for run in runs:
        name, rate = run.optimizer.name, run.optimizer.values["lr"]
        if rates.setdefault(name, rate) != rate:
            key = f"optimizer.{name}.lr"
            raise UsageError(
                f"the experiment has several learning rates of {name}: {rates[name]:g} and {rate:g}.\n"
                f"Give one, the middle of the grid: {key}={rate:g}"
            )


def _check_validation(run: Run) -> None:
    run, source = apply_settings(run), load_data(run.dataset)
    if source.val_labels is None and not len(split_source(run.dataset, source)[1]):
        raise UsageError(
            f"dataset {run.dataset.name} has no validation images, by which learning rates are chosen.\n"
            "Carve some from training: dataset.val_fraction=0.1"
        )
