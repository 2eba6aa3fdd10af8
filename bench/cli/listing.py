"""`regbench list`: every choice, with the first comment of its file."""

import argparse

from bench.cli.flags import Add
from bench.config import AXES, plugins

_GROUPS = (*AXES, "exp", "hydra/launcher")


def add_list(add: Add) -> None:
    """Adds the command."""
    command = add("list", help="list datasets, models, regularizers, optimizers, experiments and launchers")
    command.add_argument("axis", nargs="?", choices=_GROUPS, help="list this kind only")
    command.set_defaults(function=_list)


def _list(options: argparse.Namespace) -> int:
    for axis in [options.axis] if options.axis else _GROUPS:
        print(f"{'+' * (axis == 'exp')}{axis}=")
        files = plugins.config_files(axis)
        width = max(len(file.stem) for file in files) + 2
        for file in files:
            print(f"  {file.stem:{width}}{plugins.first_comment(file)}")
        if axis == "exp":
            print("(exp=NAME, without the plus, names any other command's results)")
    return 0
