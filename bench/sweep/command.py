"""A command's runs, trained: what is missing of them, by whatever launcher, with the tables kept up to date.

Whoever trains a run holds its lock, so several sweeps may work on one folder of results, and what dies is taken over.
Runs that others hold are waited for at the end.
"""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import NamedTuple

from rich.console import Console

from bench.config.plugins import user_folder
from bench.console.lines import live_line, print_line
from bench.disk.lock import holder, is_abandoned, take, this_process
from bench.errors import LockLost, UsageError
from bench.machine.device import DeviceLost
from bench.record import tables
from bench.record.folder import RunFolder, run_folder
from bench.sweep.data import note_data
from bench.sweep.describe import show_counts
from bench.sweep.device import note_device
from bench.sweep.launcher.submitit_slurm import outside_of_slurm
from bench.sweep.plan import Command, Planned, make_plan, order_by_seed
from bench.sweep.unused import find_unused
from bench.sweep.watch import Watch, watching
from bench.sweep.worker import Worker, show_nothing
from bench.training import interrupt
from bench.training.run import record_death

_SECONDS_BETWEEN_LOOKS = 1.0
_TRIES = 3  # for a run whose process dies

Launch = Callable[[Worker, int], dict[str, str]]  # has the worker do so many jobs; what they returned, together


class Outcome(NamedTuple):
    """What became of a command.

    Attributes:
        asked: the ids of its runs.
        missing: those that are not on record, or not anew where that was asked for.
        up_to_date: whether the tables are.
    """

    asked: list[str]
    missing: set[str]
    up_to_date: bool


def train_missing(command: Command, launch: Launch, console: Console) -> Outcome:
    """Trains what is missing of a command, rewrites the tables, and prints what goes on meanwhile.

    Raises:
        UsageError: something is wrong with one of the runs; nothing was trained.
        Interrupted: a signal asked to stop; what was in training has a checkpoint.
    """
    plan = make_plan(command)
    todo = order_by_seed([planned for planned in plan if command.asks_for(planned)])
    asked = [planned.run_id for planned in plan]
    notes = _ask(command, plan)
    for line in find_unused(command):
        print_line(console, line)
    show_counts(console, command.exp, plan, todo)
    for note in [*notes, *note_device(command.launcher, command.runs)]:
        print_line(console, note)
    with interrupt.handling(), live_line(console) as show:
        watch = Watch(console, command, todo, show)
        with watching(watch):
            try:
                problems = _Sweep(command, todo, launch, watch).train()
            except DeviceLost as error:
                problems = {}
                watch.print_line(str(error))
    for identifier, problem in problems.items():
        print_line(console, f"not recorded: {watch.names[identifier]} ({identifier}) {problem}")
    missing = {planned.run_id for planned in todo if not planned.read_new_record(command.results)}
    return Outcome(asked, missing, watch.up_to_date)


def _ask(command: Command, plan: Sequence[Planned]) -> list[str]:
    """Notes in the results that the experiment asks for these runs; what is to be said of their data."""
    try:
        (command.results / "runs").mkdir(parents=True, exist_ok=True)
        folder = user_folder()
        own = ["--config-dir", os.path.relpath(folder)] if folder else []
        ids, typed = [each.run_id for each in plan], [*own, *command.arguments]
        tables.request_runs(command.results, command.exp, ids, typed, command.verb, command.tuned)
        return note_data(command.results, [planned.run for planned in plan], write=True)
    except OSError as error:
        raise UsageError(f"results_dir={command.results} cannot be written to: {error.strerror}.") from error


class _Sweep:
    """Launches what nobody holds, waits for what others hold, and takes over what dies."""

    def __init__(self, command: Command, todo: Sequence[Planned], launch: Launch, watch: Watch) -> None:
        self.todo, self.launch, self.watch = todo, launch, watch
        self.fail_fast, self.results, self.launcher = watch.fail_fast, command.results.absolute(), command.launcher
        kept, exp = command.keep_weights, command.exp
        self.worker = Worker(todo, self.results, self.launcher, this_process(), kept, self.fail_fast, exp)
        self.deaths: Counter[str] = Counter()  # of the process that trained a run, by run_id
        self.failures = 0  # launches, one after the other, that gave no record and left nobody at work
        self.problems: dict[str, str] = {}  # of runs that are given up

    def train(self) -> dict[str, str]:
        """Trains until nothing is left; what kept runs from being recorded, by run_id."""
        while left := self._find_left():
            if self.fail_fast and self.fail_fast.is_noted():
                break
            holders = {p.run_id: holder(run_folder(self.results, p.run_id)) for p in left}
            free = [p for p in left if holders[p.run_id] is None]
            jobs = self.launcher.count_jobs([p.run for p in free])
            if self.launcher.shares and not self.launcher.in_process:  # some may be left of a launch of which one died
                jobs -= len(self._own_processes())
            if jobs > 0:
                self._launch(self._choose(free), jobs)
            else:
                self.watch.print_waiting({i: str(owner) for i, owner in holders.items() if owner})
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        return self.problems

    def _find_left(self) -> list[Planned]:
        """What is neither recorded nor given up.

        Raises:
            UsageError: the results are no longer there.
        """
        if not (self.results / "runs").is_dir():
            raise UsageError(
                f"{self.results} is no longer there: it was moved, renamed or removed during the training.\n"
                "What was recorded is where it is now: with results_dir=FOLDER the same command does the rest."
            )
        return [p for p in self.todo if p.run_id not in self.problems and not p.read_new_record(self.results)]

    def _choose(self, free: list[Planned]) -> list[Planned]:
        """Those whose process never died; then the others one by one: one of them takes its process along."""
        never = [planned for planned in free if not self.deaths[planned.run_id]]
        return never or [min(free, key=lambda planned: self.deaths[planned.run_id])]

    def _launch(self, chosen: list[Planned], jobs: int) -> None:
        jobs = min(jobs, len(chosen))
        show = self.watch.show if self.launcher.in_process else show_nothing
        worker = replace(self.worker, todo=chosen, jobs=jobs, show=show)
        failed = ""
        try:
            with self._stopping_workers(), outside_of_slurm():
                self.problems |= self.launch(worker, jobs)
        except Exception as error:  # whatever a launcher makes of a process of its that died, or of its own trouble
            if self.launcher.in_process:
                raise
            failed = (
                f"{self.launcher.name}: {type(error).__name__}: {(str(error).strip() or '-').splitlines()[0][:200]}"
            )
            self.watch.print_line(failed)
        left = [p.run_id for p in chosen if p.run_id not in self.problems and not p.read_new_record(self.results)]
        abandoned = [identifier for identifier in left if is_abandoned(run_folder(self.results, identifier))]
        self.deaths.update(abandoned)
        for planned in chosen:
            if planned.run_id in abandoned and self.deaths[planned.run_id] >= _TRIES:
                self._give_up(planned)
        held = any(holder(run_folder(self.results, identifier)) for identifier in left)
        stuck = len(left) == len(chosen) and not abandoned and not held
        self.failures = self.failures + 1 if stuck else 0
        if self.failures == _TRIES:
            self.problems |= dict.fromkeys(left, failed or "was trained, and no record of it can be read")

    def _give_up(self, planned: Planned) -> None:
        """Records as failed a run that takes its process along each time."""
        folder = run_folder(self.results, planned.run_id)
        message = f"its process died {_TRIES} times, of a signal or for lack of memory"
        workers = self.launcher.count_workers([each.run for each in self.todo])
        try:
            lock = take(folder, self.worker.sweep.token)
            if lock:
                with lock, suppress(LockLost):
                    record_death(planned.run, RunFolder(folder, lock.check), message, workers, self.worker.exp)
            if self.fail_fast:
                self.fail_fast.note()
        except OSError as error:
            self.problems[planned.run_id] = f"{message}, and that could not be recorded: {error}"

    @contextmanager
    def _stopping_workers(self) -> Iterator[None]:
        """Within it a signal to this process stops its workers on this machine first, each with a checkpoint."""
        if self.launcher.in_process or threading.current_thread() is not threading.main_thread():
            yield
            return
        asked: list[int] = []
        over = threading.Event()

        def stop_all() -> None:
            stopped: set[int] = set()
            while not over.wait(0.2):  # some may still be about to start
                for pid in set(self._own_processes()) - stopped:
                    stopped.add(pid)
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)

        def handle(number: int, frame: object) -> None:
            asked.append(number)
            if number == signal.SIGHUP and len(asked) > 1:  # the shell sends it, and the system
                return
            if len(asked) > 1 or self.launcher.outlives:
                raise interrupt.Interrupted(number)
            threading.Thread(target=stop_all, daemon=True).start()
            self.launcher.wait_at_stop(lambda: bool(self._own_processes()))
            if self.launcher.deals_devices:  # else whoever launched gets the workers' ends
                raise interrupt.Interrupted(number)

        previous = {each: signal.signal(each, handle) for each in interrupt.requests()}
        try:
            yield
        finally:
            over.set()
            for each, handler in previous.items():
                signal.signal(each, handler)
            if asked:
                raise interrupt.Interrupted(asked[0])

    def _own_processes(self) -> list[int]:
        """The processes on this machine that train for this sweep."""
        owners = [holder(run_folder(self.results, planned.run_id)) for planned in self.todo]
        return [owner.pid for owner in owners if owner and owner.here and owner.sweep == self.worker.sweep.token]
