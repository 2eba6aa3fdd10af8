"""A claim's picture: the region in which its effects must lie, and each effect with its seeds and its interval."""

import math

from matplotlib.figure import Figure

from bench.evidence.claim import parse_region
from bench.record.claims import Judged
from bench.report.claims import find_quantity
from bench.report.figure.style import INK, make_figure, show_grid

_REGION, _DOT = "#009e73", "#0072b2"


def draw_claim(judged: Judged) -> Figure | None:
    """Of the measure that decides; None where no seed has an effect."""
    claim, quantity = judged.claim, find_quantity(judged.claim.measure)
    ratio = claim.effect == "ratio"
    factor = 1 if ratio else quantity.factor
    effects = [effect for effect in judged.finding.effects if effect.seeds]
    if not effects:
        return None
    note = f"Shaded: what is claimed. Intervals are at 95 %, Holm's where there are several; {judged.finding.verdict}."
    figure = make_figure(7.5, 1.5 + 0.35 * len(effects), claim.statement, note)
    axes, region = figure.subplots(), parse_region(claim.region)
    for row, effect in enumerate(effects):
        ends = [factor * end for end in (effect.low, effect.high) if not math.isnan(end)]
        axes.plot([factor * value for value in effect.values], [row + 0.18] * effect.seeds, ".", color=_DOT, alpha=0.5)
        axes.plot(ends, [row] * len(ends), color=INK, linewidth=1.6)
        axes.plot([factor * effect.mean], [row], "o", color=INK)
    neutral = 1 if ratio else 0
    low, high = axes.get_xlim()
    edges = [factor * end for end in (region.low, region.high) if not math.isinf(end)]
    low, high = min(low, neutral, *edges), max(high, neutral, *edges)
    room = 0.05 * (high - low)
    axes.set_xlim(low - room, high + room)
    axes.axvspan(
        max(factor * region.low, low - room), min(factor * region.high, high + room), color=_REGION, alpha=0.15
    )
    axes.axvline(neutral, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(effects)), [effect.value or claim.id for effect in effects])
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.set_xlabel(f"{'ratio' if ratio else 'difference'} in {quantity.title}")
    show_grid(axes, "x")
    return figure
