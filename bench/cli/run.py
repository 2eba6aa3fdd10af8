"""`regbench run` and `regbench plan`: trains what is missing of a command and compares, or says what is left of it."""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from bench.console.lines import Terminal, print_line
from bench.record.experiment import Experiment
from bench.record.tables import order
from bench.report import terminal
from bench.report.layout import make_tables
from bench.status import Status
from bench.sweep.command import Launch, Outcome, train_missing
from bench.sweep.forecast import show_forecast
from bench.sweep.launch import compose as compose
from bench.sweep.launch import with_command
from bench.sweep.plan import Command


def run(arguments: Sequence[str]) -> int:
    """`regbench run`: trains what is missing of a command's runs and prints their comparison; returns the exit code.

    Raises:
        UsageError: bad input; nothing was trained.
    """
    if "--dry-run" in arguments:
        return plan([argument for argument in arguments if argument != "--dry-run"])
    return with_command(arguments, train_and_compare) or 0  # None: --cfg, --info and --help train nothing


def plan(arguments: Sequence[str]) -> int:
    """`regbench plan`: prints the state of a command's runs and what is left of them; returns the exit code.

    Raises:
        UsageError: bad input.
    """
    return with_command(arguments, lambda command, _: show_forecast(command)) or 0


def train_and_compare(command: Command, launch: Launch) -> int:
    """Trains what is missing and shows the comparison; 0 if every run is done, else 1."""
    console = Terminal()
    return _compare(console, command, train_missing(command, launch, console))


def _compare(console: Console, command: Command, outcome: Outcome) -> int:
    experiment = Experiment.load(command.results, command.exp)
    folder, rows = experiment.folder, {row["run_id"]: row for row in experiment.rows}
    shown = [rows[identifier] for identifier in outcome.asked if identifier in rows]
    if outcome.up_to_date and not {*outcome.asked} <= {*rows} | outcome.missing:
        removed = f"{folder} was removed or renamed during the training"
        print_line(console, f"{removed}: all that was trained is on record, and the same command makes its tables.")
    shown.sort(key=order)
    terminal.show_comparison(console, make_tables(replace(experiment, rows=shown)), shown)
    if len(shown) < len(rows):
        print_line(console, f"This compares these runs; `{experiment.report_command}` compares all {len(rows)}.")
    print_line(console, f"Tables: {folder}; figures and a page: {experiment.report_command}")
    if outcome.missing:
        left = f"{len(outcome.missing)} of {len(outcome.asked)} runs are not recorded"
        console.print(f"{left}; the same command does the rest.")
    finished = len(shown) == len(outcome.asked) and all(row["status"] == Status.DONE for row in shown)
    return 0 if finished and not outcome.missing and outcome.up_to_date else 1
