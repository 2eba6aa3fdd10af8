"""`regbench report`: its flags; what it does is in bench/report/command.py."""

import argparse

from bench.cli.completion import complete_exp
from bench.cli.flags import Add, complete_by, take_results_dir

_FORMATS = ("table", "csv", "markdown", "latex", "html")


def add_report(add: Add) -> None:
    """Adds the command."""
    command = add("report", help="write an experiment's tables from its records and print them")
    complete_by(command.add_argument("exp", nargs="+", help="an experiment, as in results/<exp>"), complete_exp)
    command.add_argument("--format", choices=_FORMATS, default="table", help="what is printed (%(default)s)")
    help_ = "a column of runs.csv to print, `accuracy` for test_accuracy; can be repeated"
    command.add_argument("--metric", action="append", metavar="NAME", help=help_)
    help_ = "the regularizer, or the arm_id, that the printed table compares with (%(default)s)"
    command.add_argument("--baseline", default="none", metavar="NAME", help=help_)
    help_ = "print interquartile means and probabilities of improvement, which one odd seed does not ruin"
    command.add_argument("--robust", action="store_true", help=help_)
    help_ = "order of the rows: name, or a metric, best first (%(default)s)"
    command.add_argument("--sort", default="name", metavar="NAME", help=help_)
    take_results_dir(command)
    command.set_defaults(function=_report)


def _report(options: argparse.Namespace) -> int:
    from bench.report.command import report

    return report(options)
