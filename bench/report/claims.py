"""Claims and their verdicts as they are printed: a line for each, and how far they are to be relied on."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from bench.config.claim import Claim
from bench.console.blocks import print_table
from bench.console.lines import print_line
from bench.evidence.claim import CONTRADICTED, INCONCLUSIVE, SUPPORTED, Effect, parse_region
from bench.evidence.stats import LEVEL_OF_TESTS
from bench.measure import QUALITIES
from bench.measure.quantities import COSTS, Quantity
from bench.record.claims import Judged
from bench.report.differences import signed
from bench.report.notes import count

HEADER = ["claim", "verdict", "measure", "claimed", "effect", "95 % interval", "seeds", "needed"]


def show_claims(console: Console, judged: Sequence[Judged]) -> None:
    """A table for each dataset and model, in which each claim has a row, and what the verdicts are worth."""
    places = dict.fromkeys(each.place for each in judged)
    for place in places:
        here = [each for each in judged if each.place == place]
        console.print()
        print_line(console, f"claims: {place[1]} on {place[0]}", style="bold")
        print_table(console, HEADER, [make_row(each) for each in here], names=2)
    console.print(Text(describe_verdicts(judged)))
    for note in filter(None, map(describe_lost, judged)):
        print_line(console, note)


def describe_lost(each: Judged) -> str:
    """A sentence on seeds that a claim does not rest on; empty where there are none."""
    if each.unfinished:
        return f"{each.claim.id}: {count(each.unfinished, 'run')} diverged or failed; those seeds do not count."
    return "" if each.measured else f"{each.claim.id}: no run has {each.claim.measure}, so that nothing is known."


def make_row(each: Judged) -> list[str]:
    """A claim's cells; the value that decides stands below its id."""
    claim, effect = each.claim, each.finding.decisive
    mean, interval = describe_effect(effect, claim.measure, claim.effect)
    name = "\n".join([claim.id, *([f"  {effect.value}"] if effect.value and len(each.compared[0].pairs) > 1 else [])])
    needed = "" if effect.seeds_needed is None else str(effect.seeds_needed)
    measured = [find_quantity(claim.measure).title, describe_region(claim), mean, interval]
    return [name, each.finding.verdict, *measured, str(effect.seeds), needed]


def find_quantity(column: str) -> Quantity:
    """A measure's column of runs.csv."""
    return (QUALITIES | COSTS)[column]


def describe_region(claim: Claim) -> str:
    """What was claimed of the effect, in the unit of print."""
    factor = 1 if claim.effect == "ratio" else find_quantity(claim.measure).factor
    region = parse_region(claim.region)
    if math.isinf(region.high):
        return f"> {factor * region.low:g}"
    return f"< {factor * region.high:g}" if math.isinf(region.low) else f"within ±{factor * region.high:g}"


def describe_effect(effect: Effect, measure: str, kind: str) -> tuple[str, str]:
    """An effect and its interval, with the decimals that the latter supports; empty where they are not known."""
    if math.isnan(effect.mean):
        return "", ""
    interval = None if math.isnan(effect.low) else (effect.low, effect.high)
    if kind == "ratio":
        ends = " to ".join(f"{end:.2f}" for end in interval or ())
        return f"x {effect.mean:.2f}", ends
    return signed(measure, effect.mean, interval)


def describe_verdicts(judged: Sequence[Judged]) -> str:
    """How many claims have which verdict, and how many of these would be wrong by chance."""
    verdicts = [each.finding.verdict for each in judged]
    counts = ", ".join(f"{verdicts.count(each)} {each}" for each in (SUPPORTED, CONTRADICTED, INCONCLUSIVE))
    decided = len(verdicts) - verdicts.count(INCONCLUSIVE)
    wrong = LEVEL_OF_TESTS / 2  # an interval misses an edge on either side, and one of these verdicts is right
    return (
        f"{count(len(judged), 'claim')}: {counts}. Supported: the 95 % interval over paired seeds (Holm's of several "
        "values) lies wholly inside what is claimed; contradicted: wholly outside. Were every effect at the very edge "
        f"of its region, {wrong * len(judged):.2g} of {count(len(judged), 'verdict')} would be wrong by chance; "
        f"{decided} {'is' if decided == 1 else 'are'} decided."
    )
