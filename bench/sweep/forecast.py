"""What a command would do: the state of each of its runs, and what is left of them. Nothing trains."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.config.identity import arm_id
from bench.console.lines import Terminal, describe_seconds, print_line
from bench.disk.gone import is_file
from bench.disk.lock import holder
from bench.machine.device import describe_hardware
from bench.record import tables
from bench.record.folder import CHECKPOINT, run_folder
from bench.status import Status
from bench.sweep.data import note_data
from bench.sweep.describe import name_runs, show_counts
from bench.sweep.device import note_device
from bench.sweep.plan import Command, Planned, make_plan
from bench.sweep.unused import find_unused
from bench.training.checkpoint import read_checkpoint

Rates = Mapping[tuple[Any, ...], list[float]]  # seconds per gradient evaluation


def show_forecast(command: Command) -> int:
    """Prints every run with its state, how many there are of each, and what is left to compute; returns 0.

    Raises:
        UsageError: something is wrong with one of the runs.
    """
    console = Terminal()
    plan = make_plan(command)
    todo = [planned for planned in plan if command.asks_for(planned)]
    runs = [planned.run for planned in plan]
    states = [_state(planned, command) for planned in plan]
    names = name_runs(runs, whole=True)
    width = max(len(state) for state, _ in states)
    for planned, (state, note), name in zip(plan, states, names, strict=True):
        print_line(console, f"{state:{width}}  {planned.run_id}  {name}{note}")
    for line in find_unused(command):
        print_line(console, line)
    show_counts(console, command.exp, plan, todo)
    console.print(", ".join(f"{n} {state}" for state, n in Counter(state for state, _ in states).items()))
    left = {planned.run_id: _evaluations_left(planned, command.results) for planned in todo}
    console.print(f"gradient evaluations left: {sum(left.values()):,}")
    for note in [*note_data(command.results, runs, write=False), *note_device(command.launcher, command.runs)]:
        print_line(console, note)
    if todo:
        console.print(_describe_time(todo, left, _read_rates(plan, command)))
    return 0


def _state(planned: Planned, command: Command) -> tuple[str, str]:
    """The run's state, and who holds it, or what is left of one that is trained."""
    folder = run_folder(command.results, planned.run_id)
    owner = holder(folder)
    if owner:
        return f"{Status.RUNNING} elsewhere", f": {owner}"
    if planned.status == Status.DONE and command.asks_for(planned) and not command.force:
        lacking = ", ".join(command.find_lacking(planned))
        again = "trained again, for " + (lacking or "its weights")
        return Status.PARTIAL, f": {f'{lacking} of its weights' if planned.is_trained else again}"
    return planned.status or (Status.PARTIAL if is_file(folder / CHECKPOINT) else Status.MISSING), ""


def _evaluations_left(planned: Planned, results: Path) -> int:
    """The run's gradient evaluations, less those that its checkpoint has behind it."""
    if planned.is_trained:
        return 0
    folder = run_folder(results, planned.run_id)
    checkpoint = read_checkpoint(folder, lazily=True) if planned.status in (None, Status.FAILED) else None
    return planned.evaluations - (checkpoint["gradient_evaluations"] if checkpoint else 0)


def _read_rates(plan: Sequence[Planned], command: Command) -> Rates:
    """What is on record: by arm, and by what else tells costs apart; of this hardware, where that is to train."""
    rates: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    on_record = [planned.result for planned in plan if planned.result]
    here = {describe_hardware(device) for device in {planned.run.train.device for planned in plan}}
    for row in [*on_record, *tables.read_csv(command.results / command.exp / "runs.csv")]:
        seconds, evaluations = row.get("train_seconds"), row.get("gradient_evaluations")
        if seconds and evaluations and (command.launcher.deals_devices or row["hardware"] in here):
            kind = tuple(str(row[key]) for key in ("dataset", "model", "batch_size", "precision", "device"))
            for key in ((row["arm_id"],), kind):
                rates[key].append(float(seconds) / float(evaluations))
    return rates


def _describe_time(todo: Sequence[Planned], left: Mapping[str, int], rates: Rates) -> str:
    seconds, unknown = 0.0, 0
    for planned in todo:
        run = planned.run
        kind = (run.dataset.name, run.model.name, str(run.train.batch_size), run.train.precision)
        known = rates.get((arm_id(run),)) or rates.get((*kind, run.train.device.split(":")[0]))
        seconds += left[planned.run_id] * median(known) if known else 0
        unknown += not known
    if unknown == len(todo):
        return "expected time: unknown, as no timing of such runs on this hardware is on record"
    more = f", and {unknown} runs of which no timing is on record" * (unknown > 0)
    return f"expected: {describe_seconds(seconds)} of training, one run after the other{more}"
