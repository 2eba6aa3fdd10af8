"""`regbench tune`: a learning rate for each arm of an experiment, written as an experiment of its own."""

import functools
import math
import os
from collections.abc import Sequence
from pathlib import Path

from bench.cli.flags import TUNE_COUNTS
from bench.config.overrides import show_command
from bench.config.plugins import VARIABLE, config_files, user_folder
from bench.config.tuned_file import MADE_BY, TunedArm, show_tuned
from bench.console.blocks import print_table
from bench.console.lines import Terminal, print_line
from bench.disk.files import write_atomically
from bench.errors import UsageError
from bench.sweep.command import Launch
from bench.sweep.launch import with_command
from bench.sweep.plan import Command
from bench.sweep.tune import FIRST_SEED, Arm, find_arms
from bench.sweep.tune import tune as search


def tune(arguments: Sequence[str]) -> int:
    """`regbench tune`: tunes, prints what was chosen, and writes the experiment; returns the exit code.

    Raises:
        UsageError: bad input; nothing was trained.
    """
    others, counts = [], {key: default for key, (default, _) in TUNE_COUNTS.items()}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in TUNE_COUNTS:
            others.append(argument)
        elif value.isdecimal() and int(value) >= TUNE_COUNTS[key][1]:
            counts[key] = int(value)
        else:
            raise UsageError(f"{argument} is not allowed.\n{key} must be an integer of at least {TUNE_COUNTS[key][1]}.")
    seeds = range(FIRST_SEED, FIRST_SEED + counts["tune_seeds"])
    return with_command(others, functools.partial(_tune, tuple(arguments), counts["trials"], seeds)) or 0


def _tune(typed: tuple[str, ...], trials: int, seeds: Sequence[int], command: Command, launch: Launch) -> int:
    name, console = _find_name(command), Terminal()
    folder_of_user = _need_folder()
    file = _find_place(folder_of_user, name)
    arms = find_arms(command, seeds)
    sweep = command._replace(exp=f"{Path(name).name}_tune", arguments=typed, verb="tune", shown="val")
    if not search(sweep, arms, seeds, trials, launch, console):
        return 1
    _show(console, arms)
    lost = [arm.name for arm in arms if math.isinf(arm.nll[arm.best])]
    if lost:
        print_line(console, f"No learning rate has a finite validation NLL: {', '.join(lost)}. Nothing is written.")
        return 1
    folder = os.path.relpath(folder_of_user)
    made_by = show_command("tune", ["--config-dir", folder, *typed])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, _show_file(name, command, made_by, seeds, arms))
    print_line(console, f"Tables of all rates: {sweep.results / sweep.exp}; the test split had no part in the choice.")
    claim = f"claims --config-dir {folder} {file.stem} exp={file.stem}"  # apart from claims at other rates
    then = claim if name != Path(name).name else f"run --config-dir {folder} +exp={file.stem}"
    print_line(console, f"Written: {file}. Best against best: regbench {then}")
    return 0


def _find_name(command: Command) -> str:
    """The experiment's; of a claim its own with its folder, as all claims are one experiment."""
    keys = (each.lstrip("+").partition("=") for each in command.combinations[0])
    chosen = next((value.strip("'\"") for key, _, value in keys if key == "exp"), "")
    folder = chosen.rpartition("/")[0]
    return chosen if folder == command.exp else command.exp


def _show_file(name: str, command: Command, made_by: str, seeds: Sequence[int], arms: Sequence[Arm]) -> str:
    """The text of the tuned experiment's file."""
    how = f"Least mean validation NLL over seeds {', '.join(map(str, seeds))}. {' '.join(_show_grids(arms))}"
    chosen = [
        TunedArm(
            arm.overrides,
            {f"optimizer.{arm.optimizer}.lr": arm.rate(arm.best)},
            f"validation NLL {arm.nll[arm.best]:.4g}{f', the {arm.edge} of the grid' * bool(arm.edge)}",
        )
        for arm in arms
    ]
    return show_tuned(name, made_by, how, chosen, dict.fromkeys(run.seed for run in command.runs))


def _need_folder() -> Path:
    """The user's config folder.

    Raises:
        UsageError: there is none.
    """
    if folder := user_folder():
        return folder
    raise UsageError(
        f"the tuned experiment is written into a config folder of yours, and none is given.\n"
        f"Name one, an empty one for a start: --config-dir DIR, or {VARIABLE}=DIR"
    )


def _find_place(folder: Path, exp: str) -> Path:
    """Where the tuned experiment is written.

    Raises:
        UsageError: there is an experiment of that name that was written by hand.
    """
    place = folder / "exp" / f"{exp}_tuned.yaml"
    for file in config_files(str(Path("exp", exp).parent)):
        if file.stem == place.stem and MADE_BY not in file.read_text("utf-8"):
            raise UsageError(f"{file} was not made by regbench tune, and is not replaced.\nRename it, or remove it.")
    return place


def _show_grids(arms: Sequence[Arm]) -> list[str]:
    """A line for each optimizer."""
    return [
        f"Rates of {optimizer}: {', '.join(f'{arm.rate(step):g}' for step in sorted(arm.nll))}."
        for optimizer, arm in {arm.optimizer: arm for arm in arms}.items()
    ]


def _show(console: Terminal, arms: Sequence[Arm]) -> None:
    """The arms with what was chosen, and below them the grids."""
    console.print()
    rows = [[arm.name, f"{arm.rate(arm.best):g}", f"{arm.nll[arm.best]:.4g}", arm.edge] for arm in arms]
    print_table(console, ["arm", "lr", "val NLL", "edge of the grid"], rows)
    for line in _show_grids(arms):
        print_line(console, line)
    if edges := [arm for arm in arms if arm.edge]:
        keys = dict.fromkeys(f"optimizer.{arm.optimizer}.lr" for arm in edges)
        print_line(
            console,
            f"At an edge after all extensions: {', '.join(arm.name for arm in edges)}. A better rate may lie beyond: "
            f"start from another ({', '.join(keys)}).",
        )
