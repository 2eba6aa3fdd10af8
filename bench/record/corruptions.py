"""corruptions.csv: an arm's test metrics on corrupted images, a row per corruption and strength, over its seeds.

The rows of its runs are those that the probe `robustness` has kept, in probes.json; runs that it has not measured do
not count. The clean test images are the corruption `none` of strength 0. Rows are kept while the runs behind them are
the same, and where their folders are gone (a fresh clone).
"""

from collections import defaultdict
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from bench.config import AXES
from bench.disk.lock import wait_for
from bench.evidence.stats import describe
from bench.measure import QUALITIES
from bench.measure.probed import CORRUPTED_COLUMNS, PROBED
from bench.record.columns import PARTS
from bench.record.experiment import Experiment
from bench.record.folder import read_result, run_folder
from bench.record.logit_tables import by_key, name_arm, renew, write_rows
from bench.record.probes import read_rows
from bench.record.tables import Row, read_csv
from bench.status import Status

CORRUPTED_METRICS = CORRUPTED_COLUMNS[2:]
CORRUPTION_COLUMNS = [
    *("arm_id", *AXES, "settings", "corruption", "strength", "seeds"),
    *(f"{metric}_{part}" for metric in CORRUPTED_METRICS for part in PARTS),
    "made_of",
]
_PROBE = "robustness"


def write_corruptions(experiment: Experiment) -> None:
    """Makes what is missing of the table, and removes it where no run has been measured."""
    path = experiment.folder / "corruptions.csv"
    arms: dict[str, list[Row]] = defaultdict(list)
    for row in experiment.rows:
        if row["status"] == Status.DONE and any(row.get(column) for column in PROBED[_PROBE]):
            arms[row["arm_id"]].append(row)
    old = by_key(read_csv(path), ("arm_id",))
    parts = [
        [{**row, **name_arm(runs[0])} for row in renew(old.get((arm,), []), runs, _make, experiment.results, _digest)]
        for arm, runs in arms.items()
    ]
    with wait_for(experiment.folder):  # whoever comes later made it of at least these runs
        write_rows(path, CORRUPTION_COLUMNS, parts)


def _digest(row: Row) -> str:
    """What tells a run that was measured from the same one that was measured otherwise."""
    return " ".join([row["run_id"], *(row.get(column) or "-" for column in PROBED[_PROBE])])


def _make(runs: Sequence[Row], results: Path) -> list[dict[str, Any]]:
    """The arm's rows, but for its words; none where what was measured of a run is gone."""
    found: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        folder = run_folder(results, run["run_id"])
        record = read_result(folder)
        rows = read_rows(folder, record, _PROBE) if record else []
        if not rows:
            return []
        for row in rows:
            found[row["corruption"], row["strength"]].append(row)
    return [
        {"arm_id": runs[0]["arm_id"], "corruption": corruption, "strength": strength, **_describe(rows)}
        for (corruption, strength), rows in found.items()
    ]


def _describe(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many seeds have numbers, and of each metric mean, deviation and 95 % t interval, within its range."""
    finite = [row for row in rows if all(isfinite(row[metric]) for metric in CORRUPTED_METRICS)]
    described: dict[str, Any] = {"seeds": len(finite)}
    for metric in CORRUPTED_METRICS if finite else ():
        mean, deviation, *ends = describe([row[metric] for row in finite])
        clip = QUALITIES[f"test_{metric}"].clip
        numbers = (mean, deviation, *(None if end is None else clip(end) for end in ends))
        described |= {f"{metric}_{part}": number for part, number in zip(PARTS, numbers, strict=True)}
    return described
