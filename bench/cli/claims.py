"""`regbench claims`: its flags; what it does is in bench/cli/claiming.py."""

import argparse
from pathlib import Path

from bench.cli.completion import complete_override
from bench.cli.flags import Add, complete_by


def add_claims(add: Add) -> None:
    """Adds the command."""
    command = add("claims", help="put textbooks' claims to the test: train what is missing, and print the verdicts")
    help_ = "claims by id (all, where none is named), and overrides as `run` takes them"
    complete_by(command.add_argument("arguments", nargs="*", metavar="ID|override", help=help_), complete_override)
    help_ = "print the verdicts of the tables in this folder, and train nothing"
    command.add_argument("--from", dest="source", type=Path, metavar="DIR", help=help_)
    command.add_argument("--list", action="store_true", help="list the claims")
    command.set_defaults(function=_claims)


def _claims(options: argparse.Namespace) -> int:
    from bench.cli.claiming import claims

    return claims(options)
