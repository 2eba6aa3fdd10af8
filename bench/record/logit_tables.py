"""Tables that need the logits of the runs, which `report` writes: reliability, confusion, ensemble and test_set.csv.

reliability.csv holds what a reliability diagram shows of each arm, its seeds pooled: per bin of confidence the count,
the mean confidence and the accuracy, before (`scaled` 0) and after temperature scaling (1). confusion.csv holds what
each class was taken for: see evidence/confusion.py. ensemble.csv holds what its runs are worth as one model: see
evidence/ensemble.py. test_set.csv holds the interval of each difference in
comparison.csv that comes from the finite test set: see evidence/resample.py. Reading logits takes long, so rows are
kept while the runs behind them are the same, and where logits are gone (a fresh clone).
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.config import AXES
from bench.disk.files import to_csv, write_atomically
from bench.disk.gone import remove
from bench.disk.lock import wait_for
from bench.evidence.confusion import CONFUSION_COLUMNS, confusion
from bench.evidence.ensemble import ENSEMBLE_METRICS, ensemble
from bench.evidence.resample import METRICS, interval, recentre, resample
from bench.measure import metric
from bench.measure.scores import scale
from bench.record.experiment import Experiment
from bench.record.folder import run_folder
from bench.record.logits import read_logits
from bench.record.tables import Row, read_csv
from bench.status import Status

RELIABILITY_COLUMNS = ["arm_id", "scaled", "bin", "count", "confidence", "accuracy", "made_of"]
TEST_SET_COLUMNS = [
    *("arm_id", "baseline", "metric", "seeds", "examples", "difference", "low", "high", "made_of", "interval"),
]
ENSEMBLE_COLUMNS = ["arm_id", *AXES, "settings", "members", "subsets", *ENSEMBLE_METRICS, "made_of"]


def write_logit_tables(experiment: Experiment) -> None:
    """Makes what is missing of the tables, and removes what has no arm any more.

    Args:
        experiment: whose comparison.csv is up to date.
    """
    results, folder = experiment.results, experiment.folder
    runs: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in experiment.rows:
        if row["status"] == Status.DONE:
            runs[row["arm_id"]][row["seed"]] = row
    pairs = dict.fromkeys(each.key[:2] for each in experiment.comparisons)
    seeds = {(a, b): [seed for seed in runs.get(a, {}) if seed in runs.get(b, {})] for a, b in pairs}
    behind = {(a, b): [runs[each][seed] for seed in common for each in (a, b)] for (a, b), common in seeds.items()}

    @lru_cache(maxsize=512)
    def resampled(run_id: str) -> dict[str, Any] | None:
        arrays = read_logits(run_folder(results, run_id))
        return None if arrays is None else {"labels": arrays["test_labels"], **resample(arrays)}

    of_arms = {}
    for name, make in (
        ("reliability.csv", _bin_arm),
        ("confusion.csv", _confuse_arm),
        ("ensemble.csv", _ensemble_arm),
    ):
        old = by_key(read_csv(folder / name), ("arm_id",))
        of_arms[name] = [renew(old.get((arm,), []), list(each.values()), make, results) for arm, each in runs.items()]
    words = {arm: name_arm(next(iter(each.values()))) for arm, each in runs.items()}
    named = [[{**row, **words[row["arm_id"]]} for row in part] for part in of_arms["ensemble.csv"]]
    old = by_key(map(_say_interval, read_csv(folder / "test_set.csv")), ("arm_id", "baseline"))
    test_set = [renew(old.get(pair, []), rows, _resample_pair, resampled) for pair, rows in behind.items() if rows]
    with wait_for(folder):  # whoever comes later made them of at least these runs
        write_rows(folder / "reliability.csv", RELIABILITY_COLUMNS, of_arms["reliability.csv"])
        write_rows(folder / "confusion.csv", CONFUSION_COLUMNS, of_arms["confusion.csv"])
        write_rows(folder / "ensemble.csv", ENSEMBLE_COLUMNS, named)
        write_rows(folder / "test_set.csv", TEST_SET_COLUMNS, test_set)


def write_rows(path: Path, columns: Sequence[str], parts: Iterable[Sequence[Mapping[str, Any]]]) -> None:
    """The table, or none where it would hold no row, as where there were never logits."""
    rows = [row for part in parts for row in part]
    if rows:
        write_atomically(path, to_csv(columns, rows))
    else:
        remove(path)


def _show_run(row: Row) -> str:
    return f"{row['run_id']} {row['test_nll']}"


def by_key(rows: Iterable[Row], key: Sequence[str]) -> dict[tuple[str, ...], list[Row]]:
    """Rows by their cells in some columns."""
    found: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[column] for column in key)].append(row)
    return found


def renew(
    old: list[Row], runs: Sequence[Row], make: Any, source: Any, show: Callable[[Row], str] = _show_run
) -> Sequence[Mapping[str, Any]]:
    """The old rows, where they were made of these runs, as `show` knows them; else new ones, or none where what they
    are made of is gone."""
    content = "\n".join(map(show, runs))
    made_of = hashlib.sha256(content.encode()).hexdigest()[:12]
    if old and old[0]["made_of"] == made_of:
        return old
    return [{**row, "made_of": made_of} for row in make(runs, source)]


def _bin_arm(runs: Sequence[Row], results: Path) -> list[dict[str, Any]]:
    """The arm's rows of reliability.csv; none where a run's logits are gone."""
    pooled: dict[int, list[Any]] = defaultdict(list)
    for row in runs:
        arrays = read_logits(run_folder(results, row["run_id"]))
        if arrays is None:
            return []
        logits, labels = arrays["test_logits"], arrays["test_labels"]
        pooled[0].append(metric.reliability(logits, labels))
        if row["temperature"]:
            pooled[1].append(metric.reliability(scale(logits, float(row["temperature"])), labels))
    rows = []
    for scaled, parts in pooled.items():
        counts, confidences, hits = (sum(each) for each in zip(*parts, strict=True))
        for number, count in enumerate(counts):
            where = {"arm_id": runs[0]["arm_id"], "scaled": scaled, "bin": number, "count": count}
            means = {"confidence": confidences[number] / count, "accuracy": hits[number] / count} if count else {}
            rows.append({**where, **means})
    return rows


def _confuse_arm(runs: Sequence[Row], results: Path) -> list[dict[str, Any]]:
    """The arm's rows of confusion.csv; none where a run's logits are gone, or the test images are not the same."""
    logits, labels = _read_test(runs, results)
    return [{"arm_id": runs[0]["arm_id"], **row} for row in confusion(logits, labels)] if logits else []


def _ensemble_arm(runs: Sequence[Row], results: Path) -> list[dict[str, Any]]:
    """The arm's rows of ensemble.csv, but for its words; none where `_confuse_arm` has none."""
    logits, labels = _read_test(runs, results)
    return [{"arm_id": runs[0]["arm_id"], **row} for row in ensemble(logits, labels)] if logits else []


def _read_test(runs: Sequence[Row], results: Path) -> tuple[list[Any], Any]:
    """Each run's test logits, and the labels of all; nothing where some are gone, or the images are not the same."""
    arrays = [part for row in runs if (part := read_logits(run_folder(results, row["run_id"]))) is not None]
    if not arrays or len(arrays) < len(runs):
        return [], None
    labels = arrays[0]["test_labels"]
    same = all(np.array_equal(labels, part["test_labels"]) for part in arrays)
    return ([part["test_logits"] for part in arrays] if same else []), labels


def name_arm(row: Row) -> Row:
    """The words of a run's arm; what its settings must tell depends on which other arms there are."""
    return {column: row[column] for column in (*AXES, "settings")}


def _say_interval(row: Row) -> Row:
    """A row of test_set.csv; one of an older regbench holds percentiles, of ECE, too."""
    if "interval" in row:
        return row
    low, high, difference = (float(row[key]) for key in ("low", "high", "difference"))
    return row | {key: str(value) for key, value in recentre(low, high, difference, row["metric"]).items()}


def _resample_pair(runs: Sequence[Row], resampled: Any) -> list[dict[str, Any]]:
    """The pair's rows of test_set.csv; none where logits are gone, or the test images are not the same."""
    parts = [resampled(row["run_id"]) for row in runs]
    if None in parts or not all(np.array_equal(parts[0]["labels"], part["labels"]) for part in parts):
        return []
    rows = []
    for column in METRICS:
        seeds = list(zip(runs[::2], runs[1::2], strict=True))
        difference = float(np.mean([float(arm[column]) - float(baseline[column]) for arm, baseline in seeds]))
        drawn = np.mean([a[column] - b[column] for a, b in zip(parts[::2], parts[1::2], strict=True)], axis=0)
        who: dict[str, Any] = {"arm_id": runs[0]["arm_id"], "baseline": runs[1]["arm_id"], "metric": column}
        counts = {"seeds": len(seeds), "examples": len(parts[0]["labels"]), "difference": difference}
        rows.append({**who, **counts, **interval(drawn, difference, column)})
    return rows
