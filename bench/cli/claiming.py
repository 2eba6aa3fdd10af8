"""What `regbench claims` does: trains what is missing of claims' runs, judges them, and shows the verdicts."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.config import plugins
from bench.config.claim import Claim, claim_files, read_claim
from bench.config.compose import compose_command
from bench.console.lines import Terminal, print_line
from bench.errors import UsageError
from bench.record.claims import Judged, check_measures, find_all_pairs, judge, read_pairs, write_claims
from bench.record.experiment import Experiment
from bench.report.claims import show_claims


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
    named = [each for each in options.arguments if "=" not in each]
    overrides = [each for each in options.arguments if "=" in each]
    for identifier in named:
        if identifier not in files:
            raise UsageError(f"there is no claim {identifier}.\nThere are: {', '.join(files)}")
    claims = list(_read_claims(named or [*files], overrides))
    if options.source:
        return _show(list(_judge_again(claims, options.source)))
    return _train_and_judge(claims, overrides)


def _read_claims(identifiers: Sequence[str], overrides: Sequence[str]) -> Iterator[Claim]:
    """The claims, checked before anything is trained."""
    for identifier in identifiers:
        composed = compose_command([_choose(identifier), *overrides])
        claim = read_claim(identifier, composed.claim)
        check_measures(claim)
        yield claim


def _choose(identifier: str) -> str:
    return f"+exp=claims/{identifier}"


def _judge_again(claims: Sequence[Claim], folder: Path) -> Iterator[Judged]:
    """The verdicts of tables, whose effects.csv says which arms were compared."""
    experiment = Experiment.load(folder.parent, folder.name)
    known = {claim.id: claim for claim in claims}
    pairs = read_pairs(experiment)
    if not pairs:
        raise UsageError(f"{folder} has no effects.csv with claims.\nName a folder that `regbench claims` wrote.")
    for (identifier, *_), of_claim in pairs.items():
        if identifier in known:
            yield judge(known[identifier], experiment, of_claim)


def _train_and_judge(claims: Sequence[Claim], overrides: Sequence[str]) -> int:
    from bench.sweep.command import Launch, train_missing  # here because they import torch
    from bench.sweep.launch import with_command
    from bench.sweep.plan import Command

    console, judged, places, code = Terminal(), [], set(), 0

    for number, claim in enumerate(claims, 1):
        print_line(console, f"claim {number} of {len(claims)}: {claim.id}: {claim.statement}")

        def train(command: Command, launch: Launch, claim: Claim = claim) -> Judged | None:
            outcome = train_missing(command, launch, console)
            experiment = Experiment.load(command.results, command.exp)
            arms = dict.fromkeys(row["arm_id"] for row in experiment.rows if row["run_id"] in {*outcome.asked})
            settings = {arm: experiment.settings[arm] for arm in arms}
            found = judge(claim, experiment, find_all_pairs(claim, settings))
            write_claims(experiment, [found])
            places.add((command.results, command.exp))
            return None if outcome.missing else found

        found = with_command([_choose(claim.id), *overrides], train)
        judged += [found] if found else []
        code = code if found else 1
    show_claims(console, judged)
    for results, exp in places:  # one, unless overrides name several
        print_line(console, f"Page: {_write_page(Experiment.load(results, exp), judged)}")
    return code


def _show(judged: Sequence[Judged]) -> int:
    show_claims(Terminal(), judged)
    return 0


def _write_page(experiment: Experiment, judged: Sequence[Judged]) -> Path:
    from bench.report.claims_page import write_claims_page  # here because Matplotlib takes half a second to import

    write_claims_page(experiment, judged)
    return experiment.folder / "claims.html"
