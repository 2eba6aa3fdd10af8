"""What stands under a printed table: what is tested, how, how often, and what is not."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.evidence.comparison import DIVERGED, Comparison
from bench.evidence.pairing import Arm, rest
from bench.evidence.stats import FEWEST_SEEDS, LEVEL_OF_TESTS, POWER, holm, median_interval
from bench.measure import QUALITIES
from bench.measure.quantities import Quantity, format_number
from bench.report.cells import BETTER, HOLLOW, OTHER, WORSE, Cell, Cost


@dataclass(frozen=True)
class Compared:
    """The comparisons of a table.

    Attributes:
        report: the command that reports the experiment.
        arms: those of the table, by arm_id.
        baseline: a regularizer or an arm_id, as it was asked for.
        found: the comparisons with it, by all metrics that are shown, and of divergence.
        settings: of each arm, by arm_id, those that tell it apart.
        images: whether it is known of any difference how much of it is the noise of test images.
    """

    report: str
    arms: Mapping[str, Arm]
    baseline: str
    found: Sequence[Comparison]
    settings: Mapping[str, Sequence[str]]
    images: bool

    @property
    def tuned(self) -> str:
        """The settings that each arm has of its own, `lr` for one; empty where there are none."""
        keys = dict.fromkeys(key.rpartition(".")[2] for arm in self.arms.values() for key in arm.tuned)
        return ", ".join(keys)

    def name(self, arm_id: str) -> str:
        """How the table calls an arm."""
        words = self.arms[arm_id].words
        return " ".join([words["regularizer"], words["optimizer"], *self.settings[arm_id]])

    def is_called(self, arm: Arm) -> bool:
        """Whether an arm is a baseline by its name."""
        return self.baseline in (arm.arm_id, arm.words["regularizer"])


def make_notes(compared: Compared, quantities: Sequence[Quantity], cells: Sequence[Cell]) -> list[str]:
    """The notes of a table of these quantities with these cells, each a sentence or two."""
    notes = []
    if compared.tuned:
        notes.append(f"Each arm has its own {compared.tuned}, tuned for it: best is compared with best.")
    if several := _find_several(compared):
        notes.append(
            f"`{compared.baseline}` is here more than once, as it was tuned anew: no arm is compared with it. "
            f"Choose one: {compared.report} --baseline {several[0].arm_id}"
        )
    if any(cell.half for cell in cells):
        cut = " It is cut where it would leave the metric's range." * any(cell.above for cell in cells)
        notes.append(f"Mean over seeds ± half of the 95 % t interval.{cut}")
    if not any(each.seeds for each in compared.found):
        return [*notes, *_describe_divergence(compared), *_explain_missing(compared)]
    columns = {quantity.column for quantity in quantities}
    shown = [each for each in compared.found if each.metric in columns]
    if any(each.p is not None for each in shown):
        notes += _describe_tests(compared, shown, {cell.mark for cell in cells})
        notes += _describe_power(shown, quantities)
    elif shown:
        notes.append(f"Fewer than {FEWEST_SEEDS} seeds: nothing is tested.")
    notes += [*_describe_survivors(compared, shown), *_describe_divergence(compared)]
    if compared.baseline in compared.arms:
        notes.append("Each arm is compared with it, whatever else differs: that stands below the arms' names.")
    against = {each.arm.arm_id for each in compared.found}
    alone = [arm for key, arm in compared.arms.items() if key not in against and not compared.is_called(arm)]
    if alone:
        total = len(compared.arms)
        notes.append(
            f"Without marks, as no `{compared.baseline}` equals them in all else: {len(alone)} of {total} arms."
        )
    if not several:
        notes += _describe_unused(compared, against)
    return notes


def describe_times(costs: Sequence[Cost], baseline: str) -> list[str]:
    """What the last two columns hold, and whether times are to be relied on."""
    compared = [cost for cost in costs if cost.ratios and cost.cell.half]
    text = f"evals: gradient evaluations; time: seconds of training relative to `{baseline}`, median over seeds"
    if compared:
        level = min(median_interval(cost.ratios)[2] for cost in compared)
        text += f" ± the farther end of its {100 * level:.0f} % interval"
    varying, resumed = sum(cost.varies for cost in compared), sum(cost.resumed for cost in costs)
    if varying:
        text += f". Times are rough: seeds differ by more than a quarter in {varying} of {len(compared)} arms"
    if resumed:
        text += f". {count(resumed, 'pair')} of runs had one that was interrupted and resumed"
    return [f"{text}."]


def _describe_tests(compared: Compared, shown: Sequence[Comparison], marks: set[str]) -> Iterator[str]:
    baseline, chosen = compared.baseline, compared.baseline in compared.arms
    who = f"`{baseline}` ({compared.name(baseline)})" if chosen else f"`{baseline}` with all else equal"
    if compared.tuned and not chosen:
        who += f" but {compared.tuned}"
    seeds = "alone" if compared.images else "(that of test images is not known here)"
    yield (
        f"{BETTER} better, {WORSE} worse than {who}, beyond the noise of seeds and test images; {HOLLOW[BETTER]}, "
        f"{HOLLOW[WORSE]} of seeds {seeds}. "
        f"Paired t test over common seeds, p < {LEVEL_OF_TESTS} after Holm's correction."
    )
    if OTHER in marks:
        yield f"{OTHER} other, beyond the noise of seeds: neither end is better."
    sizes = {(each.family, each.metric): each.family_size for each in shown}
    within = "metric" if chosen else "optimizer and metric"
    corrected = [each.p_holm for each in shown if each.p_holm is not None]
    p = [math.nan if each.p is None or each.p_holm is None else each.p for each in shown]
    as_one = sum(each < LEVEL_OF_TESTS for each in holm(p, sum(sizes.values())))
    yield (
        f"Corrected within each {within}: {sum(sizes.values())} tests in {count(len(sizes), 'family', 'families')}, "
        f"{count(sum(each < LEVEL_OF_TESTS for each in corrected), 'mark')}; {as_one} if the whole table were one "
        "family. One family in 20 may hold a mark by chance."
    )


def _describe_power(shown: Sequence[Comparison], quantities: Sequence[Quantity]) -> Iterator[str]:
    """How small a difference could have been shown, by the spread of the table's own differences."""
    sizes = []
    for quantity in quantities:
        found = [each.detectable for each in shown if each.metric == quantity.column and each.detectable]
        if found:
            size = quantity.factor * median(found)
            sizes.append(f"{quantity.title} {format_number(size, quantity.digits)}")
    if sizes:
        yield (
            f"The smallest differences that such tests show with {100 * POWER:.0f} % power, medians over arms, "
            f"by their own spread: {', '.join(sizes)}."
        )


def _describe_survivors(compared: Compared, shown: Sequence[Comparison]) -> Iterator[str]:
    """The differences of what has no mark because runs are missing, per arm."""
    broken: dict[str, list[str]] = {}
    for each in shown:
        if not each.has_survivors_only or each.difference is None:
            continue
        quantity = QUALITIES[each.metric]
        text = format_number(quantity.factor * each.difference, quantity.digits, "+")
        of_baseline = (f"{those} of the baseline" for those in each.baseline.describe_unfinished())
        why = ", ".join([*each.arm.describe_unfinished(), *of_baseline])
        name = f"{compared.name(each.arm.arm_id)} ({why}; {count(each.seeds, 'common seed')})"
        broken.setdefault(name, []).append(f"{quantity.title} {text}")
    if broken:
        differences = [f"{name} {', '.join(those)}" for name, those in broken.items()]
        yield (
            "No mark where runs diverged or failed on either side: the seeds that are left are no fair sample. "
            f"Differences over these: {'; '.join(differences)}."
        )


def _describe_divergence(compared: Compared) -> Iterator[str]:
    """How often arms diverge, where any does, with the exact test of McNemar against the baseline."""
    p = {each.arm.arm_id: each.p_holm for each in compared.found if each.metric == DIVERGED}
    counts = []
    for key, arm in compared.arms.items():
        n = Counter(arm.unfinished.values())[DIVERGED]
        if n:
            test = f" (p {p[key]:.2g})" if p.get(key) is not None else ""
            counts.append(f"{compared.name(key)} {n} of {n + len(arm.values)}{test}")
    if counts:
        tested = any("(p" in each for each in counts)
        test = "; p of McNemar's exact test against the baseline, after Holm" * tested
        yield f"Diverged: {', '.join(counts)}{test}."


def _describe_unused(compared: Compared, against: set[str]) -> Iterator[str]:
    """The arms that are baselines by their name, of which no other arm is compared with any."""
    used = against | {each.baseline.arm_id for each in compared.found}
    unused = [key for key, arm in compared.arms.items() if compared.is_called(arm) and key not in used and arm.values]
    if unused:
        yield (
            f"Compared with nothing, as no other arm equals it in all else: {', '.join(map(compared.name, unused))}. "
            f"To compare it: {compared.report} --baseline {unused[0]}"
        )


def _explain_missing(compared: Compared) -> list[str]:
    """Why nothing is compared."""
    finished = [arm for arm in compared.arms.values() if compared.is_called(arm) and arm.values]
    others = [arm for arm in compared.arms.values() if arm.values and not compared.is_called(arm)]
    baseline = compared.baseline
    if not finished:
        return [f"Nothing here has a baseline `{baseline}` with finished runs."]
    if not others or _find_several(compared):
        return []
    if not any(arm.values.keys() & other.values.keys() for arm in finished for other in others):
        return [f"Nothing is compared with `{baseline}`: no seed of its finished runs is another arm's, too."]
    return [
        f"Nothing is compared with `{baseline}`: no other arm equals it in all else. For what arms differ in besides: "
        f"{compared.report} --baseline {finished[0].arm_id}"
    ]


def _find_several(compared: Compared) -> list[Arm]:
    """Arms that are all called the baseline, and differ in nothing but what was tuned."""
    of_baseline: dict[str, list[Arm]] = {}
    for arm in compared.arms.values():
        if arm.tuned and compared.is_called(arm):
            of_baseline.setdefault(rest(arm, ()), []).append(arm)
    return next((arms for arms in of_baseline.values() if len(arms) > 1), [])


def count(n: int, noun: str, plural: str = "") -> str:
    """A number and its noun."""
    return f"{n} {noun if n == 1 else plural or f'{noun}s'}"
