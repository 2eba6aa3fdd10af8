"""A command's runs, trained: what is missing of them, with the tables kept up to date and all of it shown."""

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from bench import UsageError
from bench.plan import Planned, make_plan
from bench.plugins import VARIABLE, user_folder
from bench.record import arm_id, identity, run_folder
from bench.report import tables, terminal
from bench.run import WEIGHTS, train_run
from bench.settings import Run
from bench.train import Epoch

_SECONDS_BETWEEN_TABLES = 30

Task = Callable[[int], None]  # does the job of that number
Launch = Callable[[Task, int], None]  # has the task do that many jobs, here or elsewhere


class Command(NamedTuple):
    """What a command line asks for: the experiment, its runs, where their records go, and what is kept of them."""

    exp: str
    runs: list[Run]
    results: Path
    force: bool
    keep_weights: bool


def train_missing(command: Command, launch: Launch) -> int:
    """Trains what is missing, rewrites the tables, and shows the comparison; 0 if every run is done, else 1.

    Raises:
        UsageError: something is wrong with one of the runs; nothing was trained.
    """
    console = Console(highlight=False)
    plan = make_plan(command.runs, command.results)
    todo = [planned for planned in plan if command.force or _is_missing(planned, command)]
    words, seeds = [planned.run.words for planned in plan], len({planned.run.seed for planned in plan})
    arms = len({arm_id(planned.run) for planned in plan})
    terminal.show_plan(console, command.exp, words, arms, seeds, len(plan) - len(todo))
    asked = [planned.run_id for planned in plan]
    try:
        tables.ask(command.results, command.exp, asked)
    except OSError as error:
        raise UsageError(f"results_dir={command.results} cannot be written to: {error.strerror}.") from error
    with _rewriting_tables(command.results, command.exp):
        if todo:
            launch(functools.partial(_train, todo, command, user_folder()), len(todo))
    rows = {row["run_id"]: row for row in tables.read_csv(command.results / command.exp / "runs.csv")}
    shown = [row for identifier, row in rows.items() if identifier in asked]
    terminal.show_comparison(console, command.exp, shown)
    for identifier in asked:
        if identifier not in rows:
            console.print(f"not recorded: {identifier}; the same command tries again", markup=False)
    console.print(f"Tables: {command.results / command.exp}", soft_wrap=True, markup=False)
    return 0 if len(shown) == len(plan) and all(row["status"] == "done" for row in shown) else 1


def _is_missing(planned: Planned, command: Command) -> bool:
    """Whether a run must be trained; a finished one, too, if its weights are asked for and were not kept."""
    kept = (run_folder(command.results, planned.run_id) / WEIGHTS).is_file()
    return planned.status is None or (command.keep_weights and planned.status == "done" and not kept)


def _train(todo: Sequence[Planned], command: Command, plugins: Path | None, number: int) -> None:
    """Trains the job's run. Never raises: under Hydra one job's exception hides those of all others."""
    if plugins:  # in a process of a launcher's own, too
        os.environ[VARIABLE] = str(plugins)
    run, folder = todo[number].run, run_folder(command.results, todo[number].run_id)
    console = Console(highlight=False)
    place, settings = f"[{number + 1}/{len(todo)}]", _telling_settings(run, [each.run for each in todo])
    differing = [word for axis, word in run.words.items() if len({each.run.words[axis] for each in todo}) > 1]
    short_name = " ".join([place, *differing, *settings, f"seed {run.seed}"])
    started = time.monotonic()
    with terminal.live_line(console) as show:
        show(short_name)

        def on_epoch(epoch: Epoch, row: dict[str, Any], images_per_second: float) -> None:
            left = (time.monotonic() - started) * (epoch.epochs / epoch.number - 1)
            told = terminal.describe_epoch(row, images_per_second, left)
            show(f"{short_name}: epoch {epoch.number}/{epoch.epochs}, {told}")

        try:
            result = train_run(run, folder, on_epoch, command.keep_weights)
        except Exception as error:  # a full disk, say: there is no record, so the same command trains it again
            result = {"status": "failed", "message": f"it could not be recorded: {error}"}
    if not console.is_terminal or result["status"] != "done":
        name = " ".join([place, *run.words.values(), *settings, f"seed {run.seed}"])
        console.print(f"{name}: {terminal.describe_result(result)}", soft_wrap=True, markup=False)


def _telling_settings(run: Run, runs: Sequence[Run]) -> list[str]:
    """What tells a run apart from others that share its four words, seed aside: `rho=0.1`."""
    like = [identity(each) for each in runs if each.words == run.words]
    settings = identity(run).items()
    return [f"{k.rpartition('.')[2]}={v}" for k, v in settings if k != "seed" and any(o.get(k) != v for o in like)]


@contextmanager
def _rewriting_tables(results: Path, exp: str) -> Iterator[None]:
    """Rewrites the tables from time to time, whatever launches the runs, and also when the sweep is interrupted."""
    over = threading.Event()

    def rewrite() -> None:
        while not over.wait(_SECONDS_BETWEEN_TABLES):
            tables.write_tables(results, exp)

    thread = threading.Thread(target=rewrite, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        tables.write_tables(results, exp)
