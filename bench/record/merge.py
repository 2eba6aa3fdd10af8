"""`regbench merge`: other machines' results brought into these.

Runs are told apart by their run_id. Where both have a run that is finished, equal numbers are one run. Unlike numbers
are expected where hardware, versions or threads differ, and of CUDA without train.deterministic: ours is kept, or
theirs, and the pair is listed. Elsewhere they mean that something is wrong, and nothing is merged.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from bench.disk.files import Write, write_atomically, write_together
from bench.disk.gone import is_file, look_again, names_in
from bench.disk.lock import take, wait_for
from bench.errors import UsageError
from bench.record import tables
from bench.record.backfill import BACKFILLED
from bench.record.columns import LATER_COLUMNS, METRIC_COLUMNS
from bench.record.data import copy_data
from bench.record.folder import CURVES, LOGITS, RESULT, WEIGHTS, read_result, run_folder, run_folders
from bench.record.probes import adopt_measured
from bench.record.tables import Row
from bench.status import Status

# What may make equal settings give unlike numbers, and numbers that are unlike from one training to the next.
_MACHINE = ("hardware", "torch", "threads")
_TIMES = ("train_seconds", "images_per_second", "resumed")
_NUMBERS = ("status", "epochs", "train_size", *METRIC_COLUMNS, *LATER_COLUMNS)
_COMPARED = [column for column in _NUMBERS if column not in _TIMES]


@dataclass(frozen=True)
class Merge:
    """What a merge has done: runs taken over, those that were equal, and those whose numbers differ: which
    one is kept, and why they may."""

    new: list[str]
    equal: list[str]
    unlike: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class _Found:
    """A run of a folder of results: its row, and whether its record is there, too."""

    row: Row
    recorded: bool
    deterministic: bool


def merge(ours: Path, theirs: Path, keep: str = "ours") -> Merge:
    """Brings the runs of `theirs` into `ours`, and makes the tables of the experiments concerned anew.

    Args:
        ours: a folder of results, made if need be.
        theirs: another one, which is only read.
        keep: `ours` or `theirs`: whose run stays where the numbers differ.

    Raises:
        UsageError: no results there, a newer protocol, or unlike numbers that nothing explains; nothing was merged.
    """
    experiments = tables.experiments(theirs)
    found = _find_all(theirs, experiments)
    if not found:
        raise UsageError(f"{theirs} holds no results.\nIt must be the folder that holds runs/ and <exp>/runs.csv.")
    own = _find_all(ours, tables.experiments(ours))
    new = [identifier for identifier, run in found.items() if _is_better(run, own.get(identifier))]
    both = [i for i, run in found.items() if i in own and i not in new and not _is_better(own[i], run)]
    unlike = {i: (keep, _explain(i, own[i], found[i])) for i in both if not _equal(own[i].row, found[i].row)}
    for identifier, (_, why) in unlike.items():
        if own[identifier].recorded and not found[identifier].recorded:  # a row cannot take a record's place
            unlike[identifier] = ("ours", why)
    taken = {*new, *(identifier for identifier, (kept, _) in unlike.items() if kept == "theirs")}
    # A record is worth more than its row alone.
    taken |= {i for i in both if i not in unlike and found[i].recorded and not own[i].recorded}
    (ours / "runs").mkdir(parents=True, exist_ok=True)
    for identifier in taken:
        if found[identifier].recorded:
            _copy_run(ours, theirs, identifier)
    for identifier in both:
        if identifier not in taken and own[identifier].recorded and found[identifier].recorded:
            _adopt_measured(ours, theirs, identifier)
    copy_data(ours, theirs)
    for exp in experiments:
        asked = _asked(theirs, exp)
        _adopt_rows(ours, theirs, exp, {i: row for i, row in tables.read_rows(theirs, exp).items() if i in taken})
        tables.request_runs(ours, exp, asked, tuned=tables.read_tuned(theirs, exp))
        tables.note_commands(ours, exp, tables.read_commands(theirs, exp))
        tables.write_tables(ours, exp)
    return Merge(new, [i for i in both if i not in unlike], unlike)


def _asked(results: Path, exp: str) -> list[str]:
    return [*dict.fromkeys([*tables.read_rows(results, exp), *tables.read_requested_runs(results, exp)])]


def _find_all(results: Path, experiments: Sequence[str]) -> dict[str, _Found]:
    """Every run that has a record or a row."""
    found: dict[str, _Found] = {}
    for exp in experiments:
        arms = tables.read_settings(results, exp)
        for identifier, row in tables.read_rows(results, exp).items():
            config = arms.get(row["arm_id"], {})
            found[identifier] = _Found(row, False, config.get("train.deterministic", True))
    for folder in run_folders(results):
        result = read_result(folder)
        if result:
            config = result["config"]
            found[folder.name] = _Found(tables.make_row(result), True, config.get("train.deterministic", True))
    return found


def _is_better(one: _Found, other: _Found | None) -> bool:
    """Whether there is no other, or the other failed where this one is finished."""
    return other is None or (other.row["status"] == Status.FAILED and one.row["status"] != Status.FAILED)


def _equal(ours: Row, theirs: Row) -> bool:
    return all(ours.get(column) == theirs.get(column) for column in _COMPARED) or ours["status"] == Status.FAILED


def _explain(identifier: str, ours: _Found, theirs: _Found) -> str:
    """Why the numbers may differ."""
    differing = [c for c in _MACHINE if ours.row.get(c) != theirs.row.get(c)]
    if differing:
        return ", ".join(f"{c}: {ours.row.get(c)} here, {theirs.row.get(c)} there" for c in differing)
    if ours.row["device"].startswith("cuda") and not (ours.deterministic and theirs.deterministic):
        return "CUDA without train.deterministic=true"
    column = next(c for c in _COMPARED if ours.row.get(c) != theirs.row.get(c))
    raise UsageError(
        f"{identifier}: {column} is {ours.row.get(column)} here and {theirs.row.get(column)} there, on equal hardware, "
        "torch and threads.\nOne of them must be wrong; nothing of that folder was merged. Remove the wrong one:\n"
        f"regbench results --run {identifier} --delete --results-dir FOLDER"
    )


def _copy_run(ours: Path, theirs: Path, identifier: str) -> None:
    """Has our folder hold their run whole, or stay as it is."""
    source, folder = run_folder(theirs, identifier), run_folder(ours, identifier)
    lock = take(folder)
    if lock is None:
        raise UsageError(f"{identifier} is in training here.\nMerge again when it is done.")
    with lock:
        look_again(lambda: _copy_files(source, folder))  # whoever trains it there may replace some
        shutil.rmtree(folder / CURVES, ignore_errors=True)


def _adopt_measured(ours: Path, theirs: Path, identifier: str) -> None:
    """Takes over what probes have measured there, unless the run is in training here, which makes a new record."""
    folder = run_folder(ours, identifier)
    if lock := take(folder):
        with lock:
            if record := read_result(folder):
                adopt_measured(folder, run_folder(theirs, identifier), record)


def _copy_files(source: Path, folder: Path) -> None:
    # What theirs lacks goes: what is there must be the record's.
    files: dict[str, Write | None] = dict.fromkeys((LOGITS, BACKFILLED, WEIGHTS))
    for name in names_in(source):
        if is_file(source / name) and not name.startswith((".", "lock.")):
            files[name] = partial(_copy, source / name)
    write_together(folder, files, RESULT)


def _copy(source: Path, target: IO[bytes]) -> None:
    with source.open("rb") as file:
        shutil.copyfileobj(file, target)


def _adopt_rows(ours: Path, theirs: Path, exp: str, rows: dict[str, Row]) -> None:
    """Adds rows with their history and the settings of their arms; a record, where there is one, goes over its row."""
    if not rows:
        return
    with wait_for(ours / exp):
        kept = tables.read_rows(ours, exp)
        kept |= {identifier: kept.get(identifier, {}) | row for identifier, row in rows.items()}
        history = [line for line in tables.read_csv(ours / exp / "history.csv") if line["run_id"] not in rows]
        history += [line for line in tables.read_csv(theirs / exp / "history.csv") if line["run_id"] in rows]
        arms = tables.read_settings(theirs, exp) | tables.read_settings(ours, exp)
        write_atomically(ours / exp / "arms.json", json.dumps(arms, indent=1) + "\n")
        tables.write_history(ours / exp, history)
        tables.write_runs(ours / exp, kept.values())
