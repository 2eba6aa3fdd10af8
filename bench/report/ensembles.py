"""The page's table of ensembles: what the runs of an arm are worth as one model, beside a single one of them."""

from collections.abc import Sequence

import numpy as np

from bench.evidence.ensemble import ENSEMBLE_METRICS
from bench.measure import QUALITIES
from bench.measure.quantities import format_number
from bench.record.tables import Row
from bench.report.differences import name_arm
from bench.report.figure.arms import group_by
from bench.report.formats import Grid

_SHOWN = ENSEMBLE_METRICS[:3]


def ensemble_grid(rows: Sequence[Row], words: Sequence[str]) -> Grid:
    """Of each arm of at least two runs the mean over single ones, the ensemble of all, and how much better it is.

    Args:
        rows: of ensemble.csv.
        words: which of an arm's words it is named by.
    """
    by_arm = group_by(rows, lambda row: row["arm_id"])
    arms = {str(arm): sorted(each, key=_members) for arm, each in by_arm.items() if len(each) > 1}
    titles = [QUALITIES[f"test_{metric}"].title for metric in _SHOWN]
    parts = [f"{title}, {part}" for title in titles for part in ("single", "ensemble", "gain")]
    cells = [_compare(each[0], each[-1], words) for each in arms.values()]
    return Grid([*words, "members", *parts], cells, list(arms))


def _compare(single: Row, whole: Row, words: Sequence[str]) -> list[tuple[str, float | None]]:
    cells: list[tuple[str, float | None]] = [*name_arm(whole, words), (whole["members"], float(whole["members"]))]
    for metric in _SHOWN:
        quantity = QUALITIES[f"test_{metric}"]
        one, all_of_them = (np.array([float(row[metric] or "nan")]) for row in (single, whole))
        gain = quantity.gain(all_of_them, one)
        for value, sign in ((float(one[0]), ""), (float(all_of_them[0]), ""), (float(gain[0]), "+")):
            cells.append((format_number(value * quantity.factor, quantity.digits, sign), value))
    return cells


def _members(row: Row) -> int:
    return int(row["members"])
