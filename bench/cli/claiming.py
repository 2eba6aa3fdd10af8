"""What `regbench claims` does: trains what is missing of claims' runs, judges them, and shows the verdicts."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from bench.config import plugins
from bench.config.claim import Claim, claim_files, read_claim
from bench.config.compose import compose_command
from bench.config.identity import arm_id, identity
from bench.console.lines import Terminal, print_line
from bench.errors import UsageError
from bench.record.claims import (
    Judged,
    Pair,
    check_measures,
    find_all_pairs,
    is_about,
    judge,
    read_pairs,
    write_claims,
)
from bench.record.experiment import Experiment
from bench.report.claims import show_claims

if TYPE_CHECKING:
    from bench.sweep.command import Launch
    from bench.sweep.plan import Command


def claims(options: argparse.Namespace) -> int:
    """Judges, or lists, the claims that the flags name; returns the exit code.

    Raises:
        UsageError: bad input; nothing was trained.
    """
    files = claim_files()
    if options.list:
        width = max(map(len, files)) + 2
        print(*(f"{identifier:{width}}{plugins.first_comment(file)}" for identifier, file in files.items()), sep="\n")
        return 0
    named = list(dict.fromkeys(each for each in options.arguments if "=" not in each))
    overrides = [each for each in options.arguments if "=" in each]
    for identifier in named:
        if identifier not in files:
            raise UsageError(f"there is no claim {identifier}.\nThere are: {', '.join(files)}")
    if options.source:
        console = Terminal()
        show_claims(console, list(_judge_again(named, overrides, options.source, console)))
        return 0
    return _train_and_judge(list(_prepare(named or [*files], overrides)))


def _judge_again(named: Sequence[str], overrides: Sequence[str], folder: Path, console: Console) -> Iterator[Judged]:
    """The verdicts of tables, whose effects.csv says which arms were compared."""
    experiment = Experiment.load(folder.parent, folder.name)
    pairs = read_pairs(experiment)
    if not pairs:
        raise UsageError(f"{folder} has no effects.csv with claims.\nName a folder that `regbench claims` wrote.")
    there = list(dict.fromkeys(identifier for identifier, *_ in pairs))
    if overrides:
        raise UsageError(f"--from trains nothing, and {overrides[0]} would change nothing.\nLeave it out.")
    if lacking := [each for each in named if each not in there]:
        raise UsageError(f"{folder} has no claim {', '.join(lacking)}.\nIt has: {', '.join(there)}")
    known = {
        each: read_claim(each, compose_command([_choose(each)]).claim)
        for each in named or there
        if each in claim_files()
    }
    for (identifier, *_), of_claim in pairs.items():
        claim = known.get(identifier)
        if claim and all(is_about(claim, experiment.settings[pair.arm]) for pair in of_claim[0]):
            yield judge(claim, experiment, of_claim)
        elif claim:
            print_line(
                console, f"{identifier}: its file has other arms by now; `regbench claims {identifier}` trains them"
            )
        elif not named:
            print_line(
                console, f"{identifier}: there is no file of this claim; --config-dir names the folder that has it"
            )


class _Prepared(NamedTuple):
    """A claim, all that trains its runs, and the pairs of arms that it compares on each dataset and model."""

    claim: Claim
    command: "Command"
    launch: "Launch"
    pairs: Sequence[Sequence[Sequence[Pair]]]


def _prepare(identifiers: Sequence[str], overrides: Sequence[str]) -> Iterator[_Prepared]:
    """The claims, checked before anything is trained."""
    from bench.sweep.launch import with_command  # here and below because it imports torch

    for identifier in identifiers:

        def prepare(command: "Command", launch: "Launch", identifier: str = identifier) -> _Prepared:
            claim = read_claim(identifier, command.claim)
            check_measures(claim, command.evaluation)
            return _Prepared(claim, command, launch, _find_pairs_by_place(claim, command))

        if prepared := with_command([_choose(identifier), *overrides], prepare):
            yield prepared


def _find_pairs_by_place(claim: Claim, command: "Command") -> list[list[list[Pair]]]:
    from bench.sweep.plan import make_plan

    places: dict[tuple[str, str], dict[str, Any]] = {}
    for planned in make_plan(command):
        settings = {key: value for key, value in identity(planned.run).items() if key != "seed"}
        places.setdefault((settings["dataset"], settings["model"]), {})[arm_id(planned.run)] = settings
    return [find_all_pairs(claim, arms) for arms in places.values()]


def _choose(identifier: str) -> str:
    return f"+exp=claims/{identifier}"


def _train_and_judge(prepared: Sequence[_Prepared]) -> int:
    from bench.sweep.command import train_missing

    console, judged, places, code = Terminal(), [], set(), 0
    for number, (claim, command, launch, all_pairs) in enumerate(prepared, 1):
        print_line(console, f"claim {number} of {len(prepared)}: {claim.id}: {claim.statement}")
        outcome = train_missing(command, launch, console)
        experiment = Experiment.load(command.results, command.exp)
        found = [judge(claim, experiment, pairs) for pairs in all_pairs]
        write_claims(experiment, found)
        places.add((command.results, command.exp))
        if outcome.missing:
            code = 1
        else:
            judged += found
    show_claims(console, judged)
    for results, exp in places:  # one, unless overrides name several
        print_line(console, f"Page: {_write_page(Experiment.load(results, exp), judged)}")
    return 1 if any(each.unfinished for each in judged) else code


def _write_page(experiment: Experiment, judged: Sequence[Judged]) -> Path:
    from bench.report.claims_page import write_claims_page  # here because Matplotlib takes half a second to import

    write_claims_page(experiment, judged)
    return experiment.folder / "claims.html"
