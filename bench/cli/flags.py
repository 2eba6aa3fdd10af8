"""What the commands' flags have in common."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from bench.errors import UsageError

TUNE_COUNTS = {"trials": (5, 2), "tune_seeds": (2, 1)}  # of `regbench tune`: the default, and the least
Add = Callable[..., argparse.ArgumentParser]  # adds a command by its name and help


class Parser(argparse.ArgumentParser):
    """One whose errors are UsageError."""

    def error(self, message: str) -> NoReturn:
        """Raises it."""
        raise UsageError(f"{message}.\nSee {self.prog} --help.")


def make_shared_parser() -> Parser:
    """What every command takes."""
    parser = Parser(add_help=False)
    help_ = "a folder of your own datasets, models, regularizers, optimizers and experiments"
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help=help_)
    return parser


def take_results_dir(command: argparse.ArgumentParser) -> None:
    """Adds --results-dir."""
    folder = Path(os.environ.get("REGBENCH_RESULTS") or "results")
    command.add_argument(
        "--results-dir", type=Path, default=folder, metavar="DIR", help="folder of results (%(default)s)"
    )


def check_results_dir(folder: Path) -> None:
    """Raises UsageError where there is no such folder."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}.\nName the folder of results: --results-dir DIR")


def complete_by(argument: argparse.Action, completer: Callable[..., list[str]]) -> None:
    """Has the shell's TAB ask `completer` for the argument's values."""
    argument.completer = completer  # type: ignore[attr-defined]  # where argcomplete looks for it
