"""`regbench speed`: what training costs beside its forward and backward passes, as ratios taken in one process.

A ratio is that of neighbours: every contestant's turn lies between two turns of the ceiling, and is compared with the
mean of both, so that a machine whose speed wanders treats all alike. All take their turns in rounds; a table holds the
median over the rounds, and the least and the largest as its spread.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from time import perf_counter, sleep
from typing import Any

import torch

from bench.config.identity import arm_id
from bench.config.settings import Run, apply_settings
from bench.console.blocks import print_table
from bench.console.lines import Terminal, print_line
from bench.dataset import Data, load_source, make_splits, split_source
from bench.disk.files import to_csv, write_atomically
from bench.errors import UsageError
from bench.machine.cores import limit_threads
from bench.machine.device import describe_hardware
from bench.machine.memory import read_peak, read_used, release, reset_peak
from bench.speed.contestants import (
    SECONDS_TO_SETTLE,
    Contestant,
    find_shared_memory_lack,
    make_ceiling,
    make_evaluations,
    make_loaders,
    make_script,
    make_training,
)
from bench.sweep.describe import name_runs
from bench.sweep.launch import with_command
from bench.sweep.plan import Command, make_plan
from bench.sweep.unused import find_unused
from bench.training.compile import forget_compiled
from bench.training.run import configure_torch

ROUNDS = (3, 5)  # at least, at most: as many as the spread needs
# A spread, as a share of the median, that more rounds would not make a better one; a script's workers are less regular.
_NARROW = {"script": 0.1, "batches": 0.1, "training": 0.02, "evaluation": 0.02}
_SECONDS_PER_TURN = {"cpu": 1.0, "cuda": 0.3}  # a card does not wander as cores do that others share
_STEPS = (3, 400)  # of a turn: at least, at most
COLUMNS = [
    *("dataset", "model", "optimizer", "what", "name", "precision", "compile", "batch_size", "steps", "rounds"),
    *("images_per_second", "ratio", "ratio_low", "ratio_high", "to_script", "to_script_fp32"),
    *("peak_memory_mib", "device", "threads", "hardware", "torch"),
]


@dataclass
class Timing:
    """A contestant's rounds: images per second, ratio to its ceiling, and the most MiB that a turn took beyond what was
    in use before it."""

    contestant: Contestant
    rates: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    peak: float | None = None


def speed(arguments: Sequence[str]) -> int:
    """`regbench speed`: times the training loop of a command's models; returns the exit code.

    A command that names neither experiment nor dataset is one of +exp=speed.

    Raises:
        UsageError: bad input; nothing was timed.
    """
    arguments = [re.sub("^exp=", "+exp=", argument) for argument in arguments]  # its tables are in speed/, not by name
    named = any(re.match(r"\+exp=|dataset=", argument) for argument in arguments)
    return with_command([*([] if named else ["+exp=speed"]), *arguments], lambda command, _: _measure(command)) or 0


def _measure(command: Command) -> int:
    """Times each of the command's models on its data with all of its regularizers, writes and prints it; returns 0."""
    limit_threads()
    console = Terminal()
    groups: dict[str, list[Run]] = defaultdict(list)
    for planned in make_plan(command._replace(force=True)):
        run = planned.run
        groups[str((run.dataset, run.model, run.optimizer, run.train))].append(run)
    files = {key: command.results / "speed" / f"{_name(runs[0])}.csv" for key, runs in groups.items()}
    if len(set(files.values())) < len(files):
        raise UsageError("the command's arms differ in more than a table of speeds holds.\nTime them one by one.")
    for line in find_unused(command):
        print_line(console, line)
    for key, runs in groups.items():
        rows = _measure_group(console, list({arm_id(run): run for run in runs}.values()))
        command.results.mkdir(parents=True, exist_ok=True)
        write_atomically(files[key], to_csv(COLUMNS, rows))
        _show(console, rows)
        print_line(console, f"Table: {files[key]}\n")
    rounds = f"the median of {ROUNDS[0]} to {ROUNDS[1]} rounds"
    console.print(f"ratio: to forward, backward and step alone (SAM: its share); {rounds}.")
    console.print("/script: times the script at equal precision and layout; /its fp32: as it is.")
    console.print("batches: ours to those of the script's DataLoader, with nothing trained.")
    console.print("MiB: what a turn takes beyond what is there before it.")
    return 0


def _name(run: Run) -> str:
    """Of the table of a run's model, data, optimizer, device and precision."""
    train = run.train
    words = (run.dataset.name, run.model.name, run.optimizer.name, train.device, train.precision)
    return re.sub(r"[^\w.-]", "-", "_".join([*words, *["compiled"] * train.compile]))


def _measure_group(console: Terminal, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Rows of arms that differ in nothing but their regularizers."""
    run = apply_settings(replace(runs[0], regularizers=()))
    configure_torch(run)
    if run.train.compile:
        forget_compiled(len(runs) + 2)  # contestants of one model share its code, and two are ceilings
    steps, device = _choose_steps(run), torch.device(run.train.device)
    data = _load(run, steps)
    names = [
        name.rpartition("seed ")[0].strip() or run.regularizer for name, run in zip(name_runs(runs), runs, strict=True)
    ]
    training = [make_training(apply_settings(each), data, steps, name) for each, name in zip(runs, names, strict=True)]
    if run.train.compile:
        as_it_is = replace(run, train=replace(run.train, compile=False))
        training.append(make_training(as_it_is, data, steps, "none, not compiled"))
    lack = find_shared_memory_lack(run, data)
    if lack:
        print_line(console, lack)
    scripts = [] if lack else [make_script(run, data, steps, default=default) for default in (False, True)]
    timings = _take_turns(make_ceiling(run, data, steps), [*training, *scripts], device)
    if not lack:
        theirs, ours = make_loaders(run, data, steps)
        timings += _take_turns(theirs, [ours], device)
    forward, evaluation = make_evaluations(run, data, steps)
    timings += _take_turns(forward, [evaluation], device)
    shared = {
        **{axis: word for axis, word in run.words.items() if axis != "regularizer"},
        **{"batch_size": run.train.batch_size, "steps": steps},
        **{"device": run.train.device, "threads": torch.get_num_threads(), "torch": torch.__version__},
        "hardware": describe_hardware(run.train.device),
    }
    of_scripts = [timing for timing in timings if timing.contestant.what == "script"]
    release()
    return [shared | _row(timing, of_scripts) for timing in timings]


def _load(run: Run, steps: int) -> Data:
    """The run's data, of which an epoch has so many steps, or fewer where there are not so many images."""
    source = load_source(run.dataset)
    train, _ = split_source(run.dataset, source)
    values = {**run.dataset.values, "train_size": min(steps * run.train.batch_size, len(train))}
    return make_splits(replace(run.dataset, values=values), source, torch.device(run.train.device))


def _choose_steps(run: Run) -> int:
    """Steps of a turn, so that it takes long enough to be timed."""
    ceiling = make_ceiling(run, _load(run, 1), 2)
    ceiling.turn()
    started = perf_counter()
    ceiling.turn()
    least, most = _STEPS
    seconds = _SECONDS_PER_TURN[run.train.device.split(":")[0]]
    return min(max(round(2 * seconds / (perf_counter() - started)), least), most)


def _take_turns(ceiling: Contestant, contestants: Sequence[Contestant], device: torch.device) -> list[Timing]:
    """Timings of the ceiling and of the contestants, after a turn of each that does not count."""
    for each in (ceiling, *contestants):
        each.turn()
    top, timings = Timing(ceiling), [Timing(each) for each in contestants]
    least, most = ROUNDS
    for done in range(most):
        if done >= least and all(map(_is_narrow, timings)):
            break
        before = _time_turn(top, device)
        top.ratios.append(1.0)
        for timing in timings:
            rate, after = _time_turn(timing, device), _time_turn(top, device)
            cost = timing.contestant.evaluations
            timing.ratios.append(rate * cost * (1 / before + 1 / after) / 2)
            if timing.contestant.what == "script":
                sleep(SECONDS_TO_SETTLE)  # its workers make the next batches ready on the cores of the next turn
                after = _time_turn(top, device)
            before = after
    return [top, *timings]


def _is_narrow(timing: Timing) -> bool:
    return max(timing.ratios) - min(timing.ratios) <= _NARROW[timing.contestant.what] * median(timing.ratios)


def _time_turn(timing: Timing, device: torch.device) -> float:
    """Images per second in one more turn."""
    timing.contestant.prepare()
    reset_peak(device)
    used = read_used(device) or 0
    started = perf_counter()
    images = timing.contestant.turn()
    timing.rates.append(images / (perf_counter() - started))
    peak = read_peak(device)
    if peak is not None:
        timing.peak = max(peak - used, timing.peak or 0)
    return timing.rates[-1]


def _row(timing: Timing, scripts: Sequence[Timing]) -> dict[str, Any]:
    contestant, ratios = timing.contestant, timing.ratios
    row: dict[str, Any] = {
        **{"what": contestant.what, "name": contestant.name, "precision": contestant.precision},
        **{"compile": contestant.compiled(), "rounds": len(ratios)},
        **{"images_per_second": median(timing.rates), "peak_memory_mib": timing.peak},
        **{"ratio": median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios)},
    }
    if contestant.what == "training":
        for key, script in zip(("to_script", "to_script_fp32"), scripts, strict=False):  # there may be none
            of_rounds = zip(ratios, script.ratios, strict=True)
            row[key] = median(ours / theirs / contestant.evaluations for ours, theirs in of_rounds)
    return row


def _show(console: Terminal, rows: Sequence[dict[str, Any]]) -> None:
    first = rows[0]
    title = f"speed of {first['model']} on {first['dataset']}, batches of {first['batch_size']}, {first['hardware']}"
    print_line(console, title, style="bold")
    cells = []
    for row in rows:
        spread = "" if row["what"] == "ceiling" else f"{row['ratio_low']:.3f}-{row['ratio_high']:.3f}"
        cells.append(
            [
                *(row["name"], row["precision"], f"{row['images_per_second']:,.0f}", f"{row['ratio']:.3f}", spread),
                *(f"{row[key]:.2f}" if key in row else "" for key in ("to_script", "to_script_fp32")),
                f"{row['peak_memory_mib']:,.0f}" if row["peak_memory_mib"] is not None else "",
            ]
        )
    print_table(console, ["", "precision", "images/s", "ratio", "spread", "/script", "/its fp32", "MiB"], cells)
