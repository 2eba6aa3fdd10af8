"""A command's runs, checked against data and device, and which of them are on record: everything before training.

Whatever is wrong with any of them is said here, so nothing trains on a command that cannot be finished.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bench.config.identity import arm_id, run_id
from bench.config.own_code import source_fingerprint
from bench.config.settings import Choice, Run, apply_settings
from bench.dataset import Source, load_source
from bench.disk.gone import is_file
from bench.errors import UsageError
from bench.model.weights import weights_fingerprint
from bench.record.folder import WEIGHTS, read_result, record_stamp, run_folder
from bench.record.probes import lacking, measured_of
from bench.status import Status
from bench.sweep.device import resolve_device
from bench.sweep.fit import Tried, as_usage_error, check_fit
from bench.sweep.launcher import THIS_PROCESS, Launcher
from bench.sweep.retuned import check_tuned_once
from bench.training.tracker import check_tracker


@dataclass(frozen=True)
class Planned:
    """A run with its identity and what is on record of it.

    Attributes:
        run: checked, device and precision resolved.
        run_id: of the run.
        result: its record, if any.
        stamp: the record's, to tell it from the one that a new training makes.
        evaluation: the probes that are asked for; of a run that is trained again, those on record, too.
        is_trained: whether its record and its weights stand, and only probes are left to be measured.
        evaluations: gradient evaluations of the whole run; 0 where it is not to be trained.
    """

    run: Run
    run_id: str
    result: dict[str, Any] | None = None
    stamp: str = ""
    evaluations: int = 0
    evaluation: tuple[str, ...] = ()
    is_trained: bool = False

    @property
    def status(self) -> str | None:
        """done, diverged or failed, if it is on record."""
        return self.result["status"] if self.result else None

    def read_new_record(self, results: Path) -> dict[str, Any] | None:
        """Its record, if it has been made, by whomever, since the run was planned, with all that is to be measured."""
        folder = run_folder(results, self.run_id)
        if not self.is_trained and record_stamp(folder) in ("", self.stamp):
            return None
        record = read_result(folder)
        return None if lacking(folder, record, self.evaluation) else record

    def has_model(self, results: Path) -> bool:
        """Whether the training that is asked for is on record with its weights, and only probes may be left."""
        folder = run_folder(results, self.run_id)
        return (self.is_trained or record_stamp(folder) not in ("", self.stamp)) and is_file(folder / WEIGHTS)


class Command(NamedTuple):
    """What a command line asks for: the experiment, its runs, where and how they are trained, what is kept of them."""

    exp: str
    runs: list[Run]
    results: Path
    launcher: Launcher = THIS_PROCESS
    force: bool = False
    retry_failed: bool = False
    fail_fast: bool = False
    keep_weights: bool = False
    evaluation: Sequence[str] = ()
    arguments: tuple[str, ...] = ()  # as typed after `regbench run`
    verb: str = "run"  # which `regbench` was typed
    combinations: Sequence[tuple[str, ...]] = ()  # Hydra's overrides of each run
    tuned: tuple[str, ...] = ()  # the settings that each arm has of its own
    left_out: tuple[str, ...] = ()  # a line for each choice that the model has no place for
    claim: Any = None  # what its experiment claims, as plain values
    shown: str = "test"  # the split of which a finished run's metrics are printed

    def asks_for(self, planned: Planned) -> bool:
        """Whether a run is to be trained or measured; one on record, too, if it lacks weights or probes."""
        return self._trains(planned) or bool(self.find_lacking(planned))

    def _trains(self, planned: Planned) -> bool:
        if planned.status is None or self.force:
            return True
        failed = self.retry_failed and planned.status == Status.FAILED
        wanted = self.keep_weights or self.find_lacking(planned)
        return failed or bool(wanted and planned.status == Status.DONE and not self._has_weights(planned))

    def _has_weights(self, planned: Planned) -> bool:
        return is_file(run_folder(self.results, planned.run_id) / WEIGHTS)

    def find_lacking(self, planned: Planned) -> list[str]:
        """The probes that are asked for, and that it lacks."""
        return lacking(run_folder(self.results, planned.run_id), planned.result, self.evaluation)

    def look_up(self, run: Run, identifier: str) -> Planned:
        """The run with what is on record of it.

        Raises:
            UsageError: the record cannot be read.
        """
        folder = run_folder(self.results, identifier)
        stamp = record_stamp(folder)  # before the record is read: if it is replaced in between, that counts as new
        try:
            planned = Planned(run, identifier, read_result(folder), stamp, evaluation=tuple(self.evaluation))
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be read: {error.strerror}.") from error
        if planned.status != Status.DONE or not self._trains(planned):
            return replace(planned, is_trained=planned.status == Status.DONE)
        # Trained again, it loses what was measured of its old weights: that is measured anew, too.
        kept = [] if self.force else measured_of(folder, planned.result or {})
        return replace(planned, evaluation=tuple(dict.fromkeys([*self.evaluation, *kept])))


def make_plan(command: Command) -> list[Planned]:
    """The distinct runs of a command in their order; runs that are equal count once. What is trained is checked.

    Raises:
        UsageError: data missing or damaged, a device or a package not there, settings that do not fit the data, or arms
            that the experiment has at other rates, as it was tuned anew.
    """
    planned: dict[str, Planned] = {}
    evaluations: dict[str, int] = {}
    tried: Tried = {}
    hash_weights = cache(weights_fingerprint)  # for this command alone: the file may be another at the next
    for run in command.runs:
        run, source = complete(run, command.launcher, hash_weights), load_data(run.dataset)
        identifier = run_id(run)
        if identifier in planned:
            continue
        each = command.look_up(run, identifier)
        if command.asks_for(each):
            check_tracker(run.train.tracker)
            arm = arm_id(run)
            if arm not in evaluations:
                evaluations[arm] = check_fit(apply_settings(run), source, tried)
            each = replace(each, evaluations=evaluations[arm])
        planned[identifier] = each
    check_tuned_once(command.results, command.exp, [each.run for each in planned.values()], command.tuned)
    return list(planned.values())


def complete(run: Run, launcher: Launcher, hash_weights: Callable[[str], str] = weights_fingerprint) -> Run:
    """The run with all that makes its identity: device and precision resolved, the content of its data and files.

    Raises:
        UsageError: data missing or damaged, or a device not there.
    """
    source = load_data(run.dataset)
    run = replace(resolve_device(run, launcher), fingerprint=source.fingerprint)
    with as_usage_error("a class of your own"):
        return replace(run, contents=_hash_contents(run, hash_weights) | _settings_of_data(source))


def order_by_seed(todo: Sequence[Planned]) -> list[Planned]:
    """The runs with all arms of a seed together, seeds and arms in their order.

    A machine drifts: whatever it does meanwhile slows all arms of a seed alike, and their ratios stay. Stopped halfway,
    a sweep has all arms of some seeds, which can be compared.
    """
    seeds = list(dict.fromkeys(planned.run.seed for planned in todo))
    return sorted(todo, key=lambda planned: seeds.index(planned.run.seed))


def load_data(choice: Choice) -> Source:
    """A dataset, whosever loader it has.

    Raises:
        UsageError: whatever went wrong in it.
    """
    with as_usage_error(f"dataset {choice.name}"):
        return load_source(choice)


def _hash_contents(run: Run, hash_weights: Callable[[str], str]) -> dict[str, str]:
    """Hashes of what a run's settings only name: its weights to start from, and the user's own classes."""
    run = apply_settings(run)
    weights = run.model.values.get("weights")
    contents = {} if weights is None else {"model.weights": hash_weights(weights)}
    for choice in (run.dataset, run.model, *run.regularizers, run.optimizer):
        target = choice.values.get("_target_")
        source = source_fingerprint(target) if target else None
        if source:
            contents[f"source.{target}"] = source
    return contents


def _settings_of_data(source: Source) -> dict[str, Any]:
    """What stands in a run's identity for settings that count with some data only; None where they do not."""
    split = {} if source.val_labels is None else {"val_fraction": None}
    return {f"dataset.{key}": value for key, value in {**source.settings, **split}.items()}
