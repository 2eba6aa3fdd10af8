"""`regbench <command>`: reads the command and hands over. Only commands that train or time import torch."""

import argparse
import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.cli import completion
from bench.cli.claims import add_claims
from bench.cli.ending import exit_code
from bench.cli.flags import Parser, complete_by, make_shared_parser
from bench.cli.listing import add_list
from bench.cli.merge import add_merge
from bench.cli.report import add_report
from bench.cli.results import add_results
from bench.config import plugins
from bench.console.streams import lasting
from bench.errors import UsageError
from bench.machine.exit import end_quickly
from bench.machine.home import ensure_home
from bench.version import __version__

_EPILOG = """\
examples:
  regbench run +exp=digits                         all that an experiment describes
  regbench run +exp=digits seed=0,1 regularizer=none,sam
  regbench run dataset=fashion_mnist model=resnet8 'regularizer=[mixup,sam]' train.epochs=5
  regbench run exp=my_first regularizer=none,sam   a command of your own: results/my_first
  regbench run --config-dir FOLDER ...             with datasets, models and methods of your own
  regbench plan +exp=digits                        what is left of it
  regbench tune --config-dir FOLDER +exp=digits trials=5     a learning rate for each arm
  regbench run +exp=digits hydra/launcher=joblib   a process per GPU, or per core
  regbench report digits

exit code: 0 every run is finished, 1 some run failed or diverged, 2 bad input (nothing was trained)"""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of the `regbench` command: exits with 0, 1 or 2, or 128 and the signal that interrupted it."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        completion.answer(_make_parser())
    end_quickly()
    ensure_home()
    with lasting():
        code = exit_code(lambda: _flushed(_dispatch(_use_config_dir(arguments))))
    sys.exit(code)


def _flushed(code: int) -> int:
    """The exit code, once all that was printed is where it was to go."""
    sys.stdout.flush()
    return code


def _use_config_dir(arguments: Sequence[str]) -> list[str]:
    """Takes `--config-dir DIR` (Hydra: `-cd`), which every command has, or else REGBENCH_CONFIG; returns the others."""
    others, folder = [], plugins.user_folder()
    left = iter(arguments)
    for argument in left:
        flag, equals, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            value = value if equals else next(left, "")
            if not value:
                raise UsageError(f"{flag} names no folder.\nWrite {flag} FOLDER.")
            folder = Path(value)
        else:
            others.append(argument)
    if folder:
        plugins.use_folder(folder)
    return others


def _dispatch(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["run"]:  # its arguments are Hydra's
        from bench.cli.run import run

        return run(arguments[1:])
    if arguments[:1] == ["plan"]:
        from bench.cli.run import plan

        return plan(arguments[1:])
    if arguments[:1] == ["tune"]:
        from bench.cli.tune import tune

        return tune(arguments[1:])
    if arguments[:1] == ["speed"]:
        from bench.speed.measure import speed

        return speed(arguments[1:])
    parser = _make_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    return int(options.function(options))


def _make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        "regbench",
        description="Fair comparisons of regularizers for image classifiers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"regbench {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    add = functools.partial(commands.add_parser, parents=[make_shared_parser()])
    run = add("run", help="train runs and compare them; takes Hydra overrides (regbench run --help)")
    plan = add("plan", help="print the state of a command's runs and what is left to train; takes what run takes")
    tune = add("tune", help="choose each arm's learning rate by validation (trials=N); takes what run takes")
    speed = add("speed", help="time the training loop against its ceiling and a plain script; takes what run takes")
    for command in (run, plan, tune, speed):
        complete_by(command.add_argument("overrides", nargs="*"), completion.complete_override)
    for add_command in (add_report, add_claims, add_list, add_results, add_merge):
        add_command(add)
    doctor = add("doctor", help="show versions, devices, data and extras, and try a training step on each device")
    help_ = "of a dataset (dataset=NAME dataset.KEY=VALUE): list what it holds, and its equal images, instead"
    complete_by(doctor.add_argument("overrides", nargs="*", help=help_), completion.complete_override)
    doctor.set_defaults(function=_doctor)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from bench.cli.doctor import examine, examine_data

    return examine_data(options.overrides) if options.overrides else examine()
