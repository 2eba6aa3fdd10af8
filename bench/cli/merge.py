"""`regbench merge`: brings other machines' results into these."""

import argparse
from pathlib import Path

from bench.cli.flags import Add, check_results_dir, take_results_dir
from bench.console.escape import escape


def add_merge(add: Add) -> None:
    """Adds the command."""
    command = add("merge", help="bring other machines' results into these")
    command.add_argument("other", nargs="+", type=Path, help="another folder of results")
    help_ = "whose run stays where the numbers of a run differ (%(default)s)"
    command.add_argument("--keep", choices=("ours", "theirs"), default="ours", help=help_)
    take_results_dir(command)
    command.set_defaults(function=_merge)


def _merge(options: argparse.Namespace) -> int:
    from bench.record.merge import merge

    for other in options.other:
        check_results_dir(other)
    for other in options.other:
        done = merge(options.results_dir, other, options.keep)
        counts = f"{len(done.new)} new runs, {len(done.equal)} equal, {len(done.unlike)} with other numbers"
        print(escape(f"{other}: {counts}"))
        for identifier, (kept, why) in done.unlike.items():
            print(escape(f"  {identifier}: {kept} is kept ({why})"))
    return 0
