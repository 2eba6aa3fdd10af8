"""`regbench <command>`: reads the command and hands over. Only commands that train or time import torch."""

import argparse
import functools
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from bench.cli import completion
from bench.cli.ending import exit_code
from bench.config import AXES, plugins
from bench.console.escape import escape
from bench.console.streams import lasting
from bench.errors import UsageError
from bench.machine.exit import end_quickly
from bench.machine.home import ensure_home
from bench.version import __version__

STATUSES = ("done", "diverged", "failed", "partial", "running")

_EPILOG = """\
examples:
  regbench run +exp=digits                         all that an experiment describes
  regbench run +exp=digits seed=0,1 regularizer=none,sam
  regbench run dataset=fashion_mnist model=resnet8 'regularizer=[mixup,sam]' train.epochs=5
  regbench run exp=my_first regularizer=none,sam   a command of your own: results/my_first
  regbench run --config-dir FOLDER ...             with datasets, models and methods of your own
  regbench plan +exp=digits                        what is left of it
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
    if arguments[:1] == ["speed"]:
        from bench.speed.measure import speed

        return speed(arguments[1:])
    parser = _make_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    return int(options.function(options))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}.\nSee {self.prog} --help.")


def _make_shared_parser() -> _Parser:
    """What every command takes."""
    parser = _Parser(add_help=False)
    help_ = "a folder of your own datasets, models, regularizers, optimizers and experiments"
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help=help_)
    return parser


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
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
    speed = add("speed", help="time the training loop against its ceiling and a plain script; takes what run takes")
    for command in (run, plan, speed):
        _complete_by(command.add_argument("overrides", nargs="*"), completion.complete_override)
    report = add("report", help="write an experiment's tables from its records and print them")
    _complete_by(report.add_argument("exp", nargs="+", help="experiment, as in results/<exp>"), completion.complete_exp)
    _take_report_options(report)
    _take_results_dir(report)
    report.set_defaults(function=_report)
    listing = add("list", help="list datasets, models, regularizers, optimizers, experiments and launchers")
    listing.add_argument("axis", nargs="?", choices=[*AXES, "exp", "hydra/launcher"], help="one of them only")
    listing.set_defaults(function=_list)
    _add_results(add)
    merging = add("merge", help="bring other machines' results into these")
    merging.add_argument("other", nargs="+", type=Path, help="folders of results")
    merging.add_argument(
        "--keep", choices=("ours", "theirs"), default="ours", help="whose run stays where numbers differ"
    )
    _take_results_dir(merging)
    merging.set_defaults(function=_merge)
    doctor = add("doctor", help="tell versions, devices, data and extras, and try a training step on each device")
    help_ = "of a dataset (dataset=NAME dataset.KEY=VALUE): list what it holds, and its equal images, instead"
    _complete_by(doctor.add_argument("overrides", nargs="*", help=help_), completion.complete_override)
    doctor.set_defaults(function=_doctor)
    return parser


def _take_report_options(report: argparse.ArgumentParser) -> None:
    formats = ("table", "csv", "markdown", "latex", "html")
    report.add_argument("--format", choices=formats, default="table", help="of what is printed; now %(default)s")
    help_ = "a column of runs.csv to print, `accuracy` for test_accuracy; may be given again"
    report.add_argument("--metric", action="append", metavar="NAME", help=help_)
    help_ = "the regularizer, or the arm_id, that arms are compared with in print; now %(default)s"
    report.add_argument("--baseline", default="none", metavar="NAME", help=help_)
    help_ = "print interquartile means and probabilities of improvement, which a single odd seed does not ruin"
    report.add_argument("--robust", action="store_true", help=help_)
    help_ = "name, or a metric: best first; now %(default)s"
    report.add_argument("--sort", default="name", metavar="NAME", help=help_)


def _take_results_dir(command: argparse.ArgumentParser) -> None:
    folder = Path(os.environ.get("REGBENCH_RESULTS") or "results")
    command.add_argument("--results-dir", type=Path, default=folder, metavar="DIR", help="the results; now %(default)s")


def _add_results(add: Callable[..., argparse.ArgumentParser]) -> None:
    command = add("results", help="list the runs on record, or remove some of them")
    command.add_argument("--status", choices=STATUSES, action="append", help="of these only; may be given again")
    command.add_argument("--exp", action="append", help="likewise")
    for axis in AXES:
        command.add_argument(f"--{axis}", action="append", help="likewise")
    command.add_argument("--run", action="append", metavar="RUN_ID", help="likewise")
    command.add_argument("--delete", action="store_true", help="remove them, with their rows in the tables; asks first")
    command.add_argument("--yes", action="store_true", help="do not ask")
    _take_results_dir(command)
    command.set_defaults(function=_results)


def _complete_by(argument: argparse.Action, completer: Callable[..., list[str]]) -> None:
    argument.completer = completer  # type: ignore[attr-defined]  # where argcomplete looks for it


def _report(options: argparse.Namespace) -> int:
    from bench.report.command import report

    return report(options)


def _results(options: argparse.Namespace) -> int:
    from bench.record.inventory import delete, find

    _check_results_dir(options.results_dir)
    wanted = {key: getattr(options, key) for key in ("status", "exp", "run", *AXES) if getattr(options, key)}
    runs = [run for run in find(options.results_dir) if run.matches(wanted)]
    for run in runs:
        print(escape(str(run)))
    counts = Counter(run.status for run in runs)
    print(f"{len(runs)} runs: {', '.join(f'{n} {status}' for status, n in counts.items()) or 'none'}")
    if not options.delete or not runs:
        return 0
    if not options.yes and not _agrees(f"Remove these {len(runs)} runs and their rows for good?"):
        print("nothing was removed")
        return 0
    running = delete(options.results_dir, runs)
    print(f"removed {len(runs) - len(running)} runs" + f", left {len(running)} in training" * bool(running))
    return 0


def _agrees(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"{question}\nNobody is there to answer: add --yes.")
    with suppress(EOFError):  # Ctrl-D
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    return False


def _check_results_dir(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}.\nName the folder of results: --results-dir DIR")


def _merge(options: argparse.Namespace) -> int:
    from bench.record.merge import merge

    for other in options.other:
        _check_results_dir(other)
    for other in options.other:
        done = merge(options.results_dir, other, options.keep)
        counts = f"{len(done.new)} new runs, {len(done.equal)} equal, {len(done.unlike)} with other numbers"
        print(escape(f"{other}: {counts}"))
        for identifier, (kept, why) in done.unlike.items():
            print(escape(f"  {identifier}: {kept} is kept ({why})"))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from bench.cli.doctor import examine, examine_data

    return examine_data(options.overrides) if options.overrides else examine()


def _list(options: argparse.Namespace) -> int:
    for axis in [options.axis] if options.axis else [*AXES, "exp", "hydra/launcher"]:
        print(f"{'+' * (axis == 'exp')}{axis}=")
        files = plugins.config_files(axis)
        width = max(len(file.stem) for file in files) + 2
        for file in files:
            print(f"  {file.stem:{width}}{plugins.first_comment(file)}")
        if axis == "exp":
            print("(exp=NAME, without the plus, names any other command's results)")
    return 0
