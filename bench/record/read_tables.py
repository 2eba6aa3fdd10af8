"""Reading the text files of an experiment, its tables above all; what is damaged is bad input."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.config.identity import digest
from bench.disk.gone import read_if_there
from bench.errors import UsageError
from bench.measure import OF_SOME_RUNS, QUALITIES
from bench.measure.quantities import COSTS

Row = dict[str, str]

# Of every table: what a report computes with.
_NUMBERS = {
    *(*QUALITIES, *COSTS),
    *("epoch", "train_loss", "lr", "seconds"),
    *(
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "improved",
        "family_size",
        "detectable",
        "count",
        "confidence",
        "share",
        "accuracy",
        "nll",
        "ece",
        "ece_debiased",
        "strength",
    ),
    *(f"{metric}_{part}" for metric in ("accuracy", "nll", "ece") for part in ("mean", "low", "high")),
}
# What is asked of each table's rows, whatever version has written it: a table laid over another has other columns.
_NEEDED = {
    "runs.csv": {"run_id", "arm_id", "seed", "status", "protocol_version"},
    "history.csv": {"run_id", "epoch"},
    "comparison.csv": {"arm_id", "baseline", "metric", "difference"},
    "reliability.csv": {"arm_id", "scaled", "bin", "count", "made_of"},
    "confusion.csv": {"arm_id", "label", "prediction", "made_of"},
    "ensemble.csv": {"arm_id", "members", "accuracy", "made_of"},
    "corruptions.csv": {"arm_id", "corruption", "strength", "accuracy_mean", "made_of"},
    "test_set.csv": {"arm_id", "baseline", "metric", "difference", "low", "high", "made_of"},
}
_COUNTS = ("epoch", "bin", "classes", "label", "prediction", "images", "members", "subsets", "seeds")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; none where there is no file.

    Raises:
        UsageError: it is damaged.
    """
    with explaining_damage(path):
        return (read_if_there(path) or b"").decode().splitlines()


def read_csv(path: Path) -> list[Row]:
    """Rows of a table as text; none where there is no table.

    Raises:
        UsageError: it is damaged: no text, another table's header, a row of more or fewer cells than it, or no number
            where there must be one.
    """
    content = read_if_there(path)
    if content is None:
        return []
    csv.field_size_limit(sys.maxsize)  # an older regbench wrote messages of any length
    with explaining_damage(path):
        reader = csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True)
        header = reader.fieldnames or ()
        if not _NEEDED.get(path.name, set()) <= set(header) or len(set(header)) < len(header):
            raise ValueError("the header lacks a column, or has one twice")
        rows = list(reader)
        for row in rows:
            if None in row or None in row.values():
                raise ValueError("a row has more or fewer cells than the header")
            for column in _NUMBERS & row.keys():
                float(row[column] or "nan")
            for column in _COUNTS:
                int(row.get(column) or 0)
    return rows


def read_settings(results: Path, exp: str) -> dict[str, dict[str, Any]]:
    """Every setting of each arm, by arm_id, as kept beside the rows.

    Raises:
        UsageError: they are damaged.
    """
    path = results / exp / "arms.json"
    content = read_if_there(path)
    with explaining_damage(path):
        arms: dict[str, dict[str, Any]] = {} if content is None else json.loads(content)
        if not all(digest(arm) == arm_id for arm_id, arm in arms.items() if _keeps_order(arm)):
            raise ValueError("an arm's settings are not its own")
    return arms


def _keeps_order(arm: Mapping[str, Any]) -> bool:
    """Whether settings that were read have the digest of those written: keys within a value may have been numbers."""
    return "{" not in json.dumps(list(arm.values()))


def check_identities(path: Path, rows: Iterable[Row], arms: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UsageError where a row of the table, one without a record, has another's id, arm or seed."""
    with explaining_damage(path):
        for row in rows:
            arm = arms.get(row["arm_id"])
            if arm is not None and _keeps_order(arm) and digest({**arm, "seed": int(row["seed"])}) != row["run_id"]:
                raise ValueError(f"{row['run_id']} is not the run that its row describes")


@contextmanager
def explaining_damage(path: Path) -> Iterator[None]:
    """Within it, what comes of a damaged file is a UsageError that names it."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UsageError(
            f"{path} is damaged, or is no table of regbench ({type(error).__name__}).\n"
            "Restore it, or take it away: what is in the folder runs is put into a new one."
        ) from error


def others_columns(old: Row, row: Row) -> Row:
    """The columns that a run's old row has beside its new one's; what was measured of another training goes."""
    anew = any(old.get(column) != row[column] for column in ("status", "test_nll", "train_seconds"))
    others = [column for column in old if column not in row]
    measured = [each for each in others if each in OF_SOME_RUNS or each.startswith(("test_", "val_", "train_"))]
    return {each: old[each] for each in others if not (anew and each in measured)}
