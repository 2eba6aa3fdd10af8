"""`regbench results`: lists the runs on record, or removes some of them."""

import argparse
import sys
from collections import Counter
from contextlib import suppress

from bench.cli.flags import Add, check_results_dir, take_results_dir
from bench.config import AXES
from bench.console.escape import escape
from bench.errors import UsageError
from bench.status import Status

STATUSES = [status.value for status in Status if status != Status.MISSING]


def add_results(add: Add) -> None:
    """Adds the command."""
    command = add("results", help="list the runs on record, or remove some of them")
    command.add_argument(
        "--status", choices=STATUSES, action="append", help="only runs of this status; can be repeated"
    )
    command.add_argument("--exp", action="append", help="only runs of this experiment; can be repeated")
    for axis in AXES:
        command.add_argument(f"--{axis}", action="append", help=f"only runs with this {axis}; can be repeated")
    command.add_argument("--run", action="append", metavar="RUN_ID", help="only this run; can be repeated")
    command.add_argument("--delete", action="store_true", help="remove these runs, and their rows in the tables")
    command.add_argument("--yes", action="store_true", help="remove without a question")
    take_results_dir(command)
    command.set_defaults(function=_results)


def _results(options: argparse.Namespace) -> int:
    from bench.record.inventory import delete, find

    check_results_dir(options.results_dir)
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
