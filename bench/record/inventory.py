"""`regbench results`: what is on record, and the only way to remove any of it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config import AXES
from bench.disk.files import write_atomically
from bench.disk.gone import is_file, remove, remove_folder, unless_gone
from bench.disk.lock import holder, take, wait_for
from bench.record import tables
from bench.record.folder import CHECKPOINT, RESULT, read_result, run_folder, run_folders
from bench.status import Status


@dataclass(frozen=True)
class Found:
    """A run that has a folder or a row: what it is called, how it stands, and which experiments have asked for it."""

    run_id: str
    status: str
    words: dict[str, str]
    seed: str
    exps: tuple[str, ...]

    def matches(self, wanted: Mapping[str, Sequence[str]]) -> bool:
        """Whether, for each key of `wanted` (status, exp, run or an axis), it has one of the values."""
        has = {
            "status": [self.status],
            "run": [self.run_id],
            "exp": self.exps,
            **{k: [w] for k, w in self.words.items()},
        }
        return all(any(value in values for value in has.get(key, ())) for key, values in wanted.items())

    def __str__(self) -> str:
        name = " ".join([*(self.words.get(axis, "") for axis in AXES), f"seed {self.seed}"]) if self.words else ""
        return f"{self.status:8}  {self.run_id}  {name or '(no record yet)'}  [{', '.join(self.exps)}]"


def find(results: Path) -> list[Found]:
    """Every run in a folder of results, in the order of the tables.

    Raises:
        UsageError: they were written by a newer regbench.
    """
    exps: dict[str, list[str]] = defaultdict(list)
    rows: dict[str, dict[str, str]] = {}
    for exp in tables.experiments(results):
        known = tables.read_rows(results, exp)
        rows |= known
        for identifier in dict.fromkeys([*known, *tables.read_requested_runs(results, exp)]):
            exps[identifier].append(exp)
    found = []
    for identifier in dict.fromkeys([*rows, *(folder.name for folder in run_folders(results))]):
        folder = run_folder(results, identifier)
        result = read_result(folder)
        row = tables.make_row(result) if result else rows.get(identifier, {})
        status = row.get("status") or (Status.PARTIAL if is_file(folder / CHECKPOINT) else "")
        if holder(folder):
            status = Status.RUNNING
        if status:
            words = {axis: row[axis] for axis in AXES} if row else {}
            found.append(Found(identifier, status, words, row.get("seed", ""), tuple(exps[identifier])))
    return found


def delete(results: Path, runs: Iterable[Found]) -> list[Found]:
    """Removes runs, with their rows in every table, and returns those that are in training and so were left."""
    running, gone = [], []
    for run in runs:
        folder = run_folder(results, run.run_id)
        if unless_gone(folder.stat):
            lock = take(folder)
            if lock is None:
                running.append(run)
                continue
            with lock:
                remove(folder / RESULT)  # the first, so that no half of it counts
                remove_folder(folder)
        gone.append(run)
    for exp in sorted({exp for run in gone for exp in run.exps}):
        _delete_rows(results, exp, {run.run_id for run in gone})
        tables.write_tables(results, exp)
    return running


def _delete_rows(results: Path, exp: str, run_ids: set[str]) -> None:
    folder = results / exp
    with wait_for(folder):
        rows = [row for row in tables.read_rows(results, exp).values() if row["run_id"] not in run_ids]
        history = [line for line in tables.read_csv(folder / "history.csv") if line["run_id"] not in run_ids]
        asked = [
            f"{identifier}\n" for identifier in tables.read_requested_runs(results, exp) if identifier not in run_ids
        ]
        write_atomically(folder / tables.ASKED, "".join(asked))
        tables.write_history(folder, history)
        tables.write_runs(folder, rows)
