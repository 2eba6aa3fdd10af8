"""What a process that trains does: takes runs that nobody else has, trains and records them, one after the other.

It is launched in the process that starts the sweep, or in others, here or on another machine. It never raises for what
goes wrong in a run: under Hydra one job's exception hides those of all others.
"""

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch

from bench.console.streams import lasting
from bench.disk.lock import Lock, Owner, take
from bench.errors import LockLost
from bench.machine import device, free_memory
from bench.machine.cores import limit_threads
from bench.machine.memory import release_and_settle
from bench.record.folder import RunFolder, run_folder
from bench.status import Status
from bench.sweep.describe import describe_epoch, name_runs
from bench.sweep.fail_fast import FailFast
from bench.sweep.launcher import Launcher
from bench.sweep.plan import Planned
from bench.training import interrupt
from bench.training.probing import measure_kept
from bench.training.run import train_run
from bench.training.trainer import Epoch

_SECONDS_BETWEEN_LOOKS = 2.0

Show = Callable[[str], None]  # shows a line in place of the last one


def show_nothing(line: str) -> None:
    """For a process that nobody watches."""


@dataclass(frozen=True)
class Worker:
    """A sweep's task as a launcher hands it to the processes that train; called with the number of the job.

    Processes that share the runs have all of them in `todo`, a job of a cluster has its own alone.
    """

    todo: Sequence[Planned]
    results: Path
    launcher: Launcher
    sweep: Owner  # the process that started the sweep
    keep_weights: bool = False
    fail_fast: FailFast | None = None
    exp: str = "adhoc"  # the experiment, for a tracker
    jobs: int = 1
    show: Show = show_nothing
    folder: Path = field(default_factory=Path.cwd)
    cards: str | None = field(default_factory=device.visible)
    environment: dict[str, str] = field(
        default_factory=lambda: {key: value for key, value in os.environ.items() if key.startswith("REGBENCH_")}
    )

    def __call__(self, number: int) -> dict[str, str]:
        """Trains the job's runs, and returns, by run_id, what kept some from being recorded.

        Raises:
            Interrupted: a signal asked this process to stop, and it must end; there is a checkpoint.
            DeviceLost: in the process that starts the sweep; it must end, too. What failed is recorded.
        """
        if _lost.is_set():
            os._exit(1)  # a pool gives it another job, and starts anew without it
        limit_threads()
        if self.launcher.in_process:
            return self._train_all(self.todo)
        os.chdir(self.folder)
        os.environ.update(self.environment)
        if self.launcher.shares:  # submitit lets the jobs of this machine see none, or the first ones
            device.see(self.cards, number)
        runs = [planned.run for planned in self.todo]
        torch.set_num_threads(self.launcher.count_threads(runs) or torch.get_num_threads())
        free_memory.share_among(self.launcher.count_workers(runs))
        mine = [*self.todo[number:], *self.todo[:number]] if self.launcher.shares else self.todo
        if self.launcher.shares:  # a cluster's jobs go on by themselves
            _follow(self.sweep)
        try:
            with lasting(), _working(), interrupt.handling(patient=True):
                return self._train_all([_on_own_device(planned, number, self.jobs) for planned in mine])
        except device.DeviceLost:
            _lost.set()
            return {}
        except interrupt.Interrupted:
            if self.launcher.swallows and os.getpid() != self.sweep.pid:
                return {}
            raise

    def _train_all(self, mine: Sequence[Planned]) -> dict[str, str]:
        names = name_runs([planned.run for planned in self.todo], [planned.run for planned in mine])
        problems: dict[str, str] = {}
        release_and_settle()
        for planned, name in zip(mine, names, strict=True):
            if self.fail_fast and self.fail_fast.is_noted():
                break
            if planned.run.train.device.startswith("cuda") and not device.find_gpus():  # says nothing about the run
                problems[planned.run_id] = f"was not trained: its process found no {planned.run.train.device}"
                continue
            try:
                self._train(planned, name)
            except OSError as error:
                problems[planned.run_id] = f"could not be recorded: {error}"
            release_and_settle()
            interrupt.stop_if_requested()
        return problems

    def _train(self, planned: Planned, name: str) -> None:
        """Trains a run, unless it is recorded or another process has it."""
        if planned.read_new_record(self.results):
            return
        lock = take(run_folder(self.results, planned.run_id), self.sweep.token)
        if lock is None:
            return
        with lock, suppress(LockLost):  # whoever took it over trains it, and that record stands
            if not planned.read_new_record(self.results):
                self._train_locked(planned, name, lock)

    def _train_locked(self, planned: Planned, name: str, lock: Lock) -> None:
        self.show(name)
        started, first = time.monotonic(), 0

        def on_epoch(epoch: Epoch, row: dict[str, Any], images_per_second: float) -> None:
            nonlocal first
            first = first or epoch.number  # above 1 where the run goes on from a checkpoint
            left = (time.monotonic() - started) / (epoch.number - first + 1) * (epoch.epochs - epoch.number)
            state = describe_epoch(row, images_per_second, left)
            self.show(f"{name}: epoch {epoch.number}/{epoch.epochs}, {state}")

        workers = self.launcher.count_workers([each.run for each in self.todo])
        folder = run_folder(self.results, planned.run_id)
        asked = planned.evaluation
        if planned.has_model(self.results):
            measure_kept(planned.run, RunFolder(folder, lock.check), asked)
        else:
            result = train_run(planned.run, folder, on_epoch, self.keep_weights, workers, lock.check, asked, self.exp)
            if self.fail_fast and result["status"] == Status.FAILED:
                self.fail_fast.note()
        if device.is_lost(torch.device(planned.run.train.device)):
            raise device.DeviceLost(f"{planned.run.train.device} answers no more in this process, which ends.")


_works = Event()  # set while this process has a job
_lost = Event()  # set when its device answers no more


@contextmanager
def _working() -> Iterator[None]:
    _works.set()
    try:
        yield
    finally:
        _works.clear()


@functools.cache  # one thread in a process, which works for one sweep all its life
def _follow(sweep: Owner) -> None:
    """Has this process stop with a checkpoint, and end, when the one that it works for has died on this machine."""

    def look() -> None:
        while sweep.runs:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        while _works.is_set():
            interrupt.request_stop(signal.SIGTERM)
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(0)  # else a pool's process waits for minutes for another job

    if sweep.here and sweep.pid != os.getpid():
        Thread(target=look, daemon=True).start()


def _on_own_device(planned: Planned, number: int, jobs: int) -> Planned:
    """The run on the job's own GPU, where several jobs share the GPUs of this machine and none was named."""
    gpus = len(device.find_gpus())
    if planned.run.train.device != "cuda" or jobs == 1 or gpus < 2:
        return planned
    train = replace(planned.run.train, device=f"cuda:{number % gpus}")
    return replace(planned, run=replace(planned.run, train=train))
