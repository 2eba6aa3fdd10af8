"""`regbench <command>`: reads the command and hands over. Only `run` and `doctor` import torch."""

import argparse
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import AXES, UsageError, __version__, completion, plugins

_EPILOG = """\
examples:
  regbench run +exp=digits                         all that an experiment describes
  regbench run +exp=digits seed=0,1 regularizer=none,sam
  regbench run dataset=fashion_mnist model=resnet8 'regularizer=[mixup,sam]' train.epochs=5
  regbench run --config-dir FOLDER ...             with datasets, models and methods of your own
  regbench report digits

exit code: 0 every run is finished, 1 some run failed or diverged, 2 bad input (nothing was trained)"""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of the `regbench` command: exits with 0, 1 or 2, or 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        import argcomplete

        argcomplete.autocomplete(_make_parser())
    try:
        sys.exit(_dispatch(_use_config_dir(arguments)))
    except BrokenPipeError:  # `regbench list | head`: whoever read is satisfied
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (Exception, KeyboardInterrupt) as error:
        if not _interrupted(error):
            if not isinstance(error, UsageError):
                raise
            print(f"regbench: {error}", file=sys.stderr)
            sys.exit(2)
        print("regbench: interrupted; what is finished is kept, and the same command does the rest", file=sys.stderr)
        sys.exit(128 + _signal(error))


def _signal(error: BaseException) -> int:
    """The signal that interrupted: of the error itself, Ctrl-C where a library hid it."""
    return int(getattr(error, "signal", signal.SIGINT))


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: libraries that are interrupted may raise one of their own over it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


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
        from bench.app import run

        return run(arguments[1:])
    if arguments[:1] == ["plan"]:
        from bench.app import plan

        return plan(arguments[1:])
    parser = _make_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    return int(options.function(options))


def _make_shared_parser() -> argparse.ArgumentParser:
    """What every command takes."""
    parser = argparse.ArgumentParser(add_help=False)
    help_ = "a folder of your own datasets, models, regularizers, optimizers and experiments"
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help=help_)
    return parser


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "regbench",
        description="Fair comparisons of regularizers for image classifiers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"regbench {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    add = functools.partial(commands.add_parser, parents=[_make_shared_parser()])
    run = add("run", help="train runs and compare them; takes Hydra overrides (regbench run --help)")
    plan = add("plan", help="print the state of a command's runs and what is left to train; takes what run takes")
    for command in (run, plan):
        _complete_by(command.add_argument("overrides", nargs="*"), completion.complete_override)
    report = add("report", help="write an experiment's tables from its records and print them")
    _complete_by(report.add_argument("exp", nargs="+", help="experiment, as in results/<exp>"), completion.complete_exp)
    report.add_argument("--results-dir", type=Path, default=Path(os.environ.get("REGBENCH_RESULTS") or "results"))
    report.set_defaults(function=_report)
    listing = add("list", help="list datasets, models, regularizers, optimizers and experiments")
    listing.add_argument("axis", nargs="?", choices=[*AXES, "exp"], help="one of them only")
    listing.set_defaults(function=_list)
    doctor = add("doctor", help="tell versions, devices, data and extras, and try a training step on each device")
    doctor.set_defaults(function=_doctor)
    return parser


def _complete_by(argument: argparse.Action, completer: Callable[..., list[str]]) -> None:
    argument.completer = completer  # type: ignore[attr-defined]  # where argcomplete looks for it


def _report(options: argparse.Namespace) -> int:
    from rich.console import Console

    from bench.report import tables, terminal

    for exp in options.exp:
        if not any((options.results_dir / exp / file).is_file() for file in ("runs.csv", "asked.txt")):
            known = sorted(p.parent.name for p in options.results_dir.glob("*/runs.csv"))
            raise UsageError(
                f"there are no results of {exp} in {options.results_dir}.\n"
                f"There are those of: {', '.join(known) or 'nothing yet'}. Train them: regbench run +exp={exp}"
            )
        terminal.show_comparison(Console(highlight=False), exp, tables.write_tables(options.results_dir, exp))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from bench.doctor import examine

    return examine()


def _list(options: argparse.Namespace) -> int:
    for axis in [options.axis] if options.axis else [*AXES, "exp"]:
        print(f"{'+' * (axis == 'exp')}{axis}=")
        files = plugins.config_files(axis)
        width = max(len(file.stem) for file in files) + 2
        for file in files:
            print(f"  {file.stem:{width}}{_first_comment(file)}")
    return 0


def _first_comment(file: Path) -> str:
    """The first comment of a config file that is not for Hydra."""
    comments = (line[1:].strip() for line in file.read_text().splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not re.match("@package", comment)), "")
