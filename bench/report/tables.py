"""The CSV tables of an experiment, made anew from the records of its runs.

runs.csv has a row per run, history.csv one per run and epoch, summary.csv one per arm, comparison.csv one per arm and
metric against its baseline; arms.json holds every setting of each arm. Which runs an experiment has asked for is in its
asked.txt and its runs.csv; a row whose run folder is not here (a fresh clone with committed tables) is kept as it
stands. Cells are text: a number is written in full once, and read back and written again without a change.
"""

import csv
import io
import json
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import AXES, UsageError
from bench.comparison import COMPARISON_COLUMNS, compare, read_arms
from bench.gone import is_file, names_in, read_if_there
from bench.lock import wait_for
from bench.quantities import COSTS, QUALITIES
from bench.record import (
    ADDED_LATER,
    HISTORY_COLUMNS,
    check_protocol,
    read_result,
    remove_parts,
    run_folder,
    shorten,
    to_csv,
    write_atomically,
)
from bench.scores import SCORES, complete
from bench.stats import describe

Row = dict[str, str]
ASKED, COMMANDS = "asked.txt", "commands.txt"
_NOT_TOLD = re.compile(
    r"\+*(results_dir=|hydra(?!\.sweeper)[/.]|(force|keep_weights|retry_failed|fail_fast)=|dataset\.root=)|--?m"
)

METRIC_COLUMNS = [
    *(f"{split}_{metric}" for split in ("test", "val", "train") for metric in ("accuracy", "nll", "ece")),
    *COSTS,
]
BRIER_COLUMNS = ["test_brier", "val_brier", "train_brier"]
RUN_COLUMNS = [
    *("run_id", "exp", *AXES, "seed", "status", "epochs", "train_size", "batch_size", "precision", "device"),
    *METRIC_COLUMNS,
    *("arm_id", "settings", "protocol_version", "workers", "threads", "hardware", "torch"),
    *BRIER_COLUMNS,
    *SCORES,
    "message",
]
SUMMARISED = [*METRIC_COLUMNS, *BRIER_COLUMNS, *(column for column in SCORES if column in QUALITIES)]
_PARTS = ("mean", "std", "low", "high")
ARM_COLUMNS = [*AXES, "settings", "arm_id", "runs", "failed", "diverged"]
SUMMARY_COLUMNS = [
    *ARM_COLUMNS,
    *(f"{metric}_{part}" for metric in SUMMARISED for part in _PARTS),
]


def ask(results: Path, exp: str, run_ids: Iterable[str], arguments: Sequence[str] = ()) -> None:
    """Notes that the experiment asks for these runs, so that their rows are made whenever they are recorded.

    The command that asks is noted in commands.txt, less what says where and how runs are trained, not which.

    Raises:
        UsageError: the experiment's tables were written by a newer regbench, or are damaged.
        OSError: the results cannot be written to.
    """
    with wait_for(results / exp):
        read_rows(results, exp)
        read_settings(results, exp)
        asked = read_asked(results, exp)
        new = [identifier for identifier in run_ids if identifier not in asked]
        if new:
            write_atomically(results / exp / ASKED, "".join(f"{identifier}\n" for identifier in [*asked, *new]))
        told = [argument for argument in arguments if not _NOT_TOLD.match(argument)]
        note_commands(results, exp, [shlex.join(["regbench", "run", *told])] if arguments else [])


def note_commands(results: Path, exp: str, lines: Iterable[str]) -> None:
    """Adds commands to those that have asked for the experiment's runs."""
    known = read_commands(results, exp)
    new = [line for line in lines if line not in known]
    if new:
        write_atomically(results / exp / COMMANDS, "".join(f"{each}\n" for each in [*known, *new]))


def read_commands(results: Path, exp: str) -> list[str]:
    """The commands that have asked for the experiment's runs, in that order."""
    return _read_text(results / exp / COMMANDS).splitlines()


def write_tables(results: Path, exp: str) -> list[Row]:
    """Rewrites the experiment's tables, each atomically, and returns the rows of runs.csv.

    Several processes may do so at once: they take turns, so that none takes away a row that another has added.

    Raises:
        UsageError: they were written by a newer regbench, or are damaged.
        OSError: the results cannot be written to.
    """
    with wait_for(results / exp):
        folder = results / exp
        remove_parts(folder)
        kept = read_rows(results, exp)
        asked = read_asked(results, exp)
        records = {i: record for i in dict.fromkeys([*kept, *asked]) if (record := read_result(run_folder(results, i)))}
        for identifier, record in records.items():
            kept[identifier] = make_row(complete(run_folder(results, identifier), record)) | {"exp": exp}
        arms = read_settings(results, exp)
        for record in records.values():
            arms[record["arm_id"]] = {key: value for key, value in record["config"].items() if key != "seed"}
        used = {row["arm_id"] for row in kept.values()}
        arms = {arm: arms[arm] for arm in sorted(arms) if arm in used}
        _tell_apart(kept.values(), arms)
        rows = sorted(kept.values(), key=order)
        write_atomically(folder / "arms.json", json.dumps(arms, indent=1) + "\n")
        write_atomically(folder / "runs.csv", to_csv(RUN_COLUMNS, rows))
        write_atomically(folder / "history.csv", to_csv(HISTORY_COLUMNS, _gather_history(results, exp, rows, records)))
        write_atomically(folder / "summary.csv", to_csv(SUMMARY_COLUMNS, summarise(rows)))
        compared = compare(read_arms(rows, arms))
        write_atomically(folder / "comparison.csv", to_csv(COMPARISON_COLUMNS, compared))
    return rows


def experiments(results: Path) -> list[str]:
    """The experiments that have asked for runs, by name."""
    names = [name for name in names_in(results) if name != "runs"]
    return [name for name in names if is_file(results / name / "runs.csv") or is_file(results / name / ASKED)]


def make_row(record: Mapping[str, Any]) -> Row:
    """A record's row of runs.csv, but for what depends on the experiment."""
    return {column: cell(record.get(column)) for column in RUN_COLUMNS}


def read_rows(results: Path, exp: str) -> dict[str, Row]:
    """The experiment's rows of runs.csv, by run_id.

    Raises:
        UsageError: they were written by a newer regbench, or are damaged.
    """
    path = results / exp / "runs.csv"
    blank = dict.fromkeys(RUN_COLUMNS, "")  # an older regbench had fewer columns
    with _telling_damage(path):
        rows = {row["run_id"]: blank | row for row in read_csv(path)}
        for row in rows.values():
            check_protocol(row["protocol_version"], path)
    return rows


def read_asked(results: Path, exp: str) -> dict[str, None]:
    """Which runs the experiment has asked for, in that order."""
    return dict.fromkeys(_read_text(results / exp / ASKED).split())


def read_csv(path: Path) -> list[Row]:
    """Rows of a table as text; none where there is no table."""
    return list(csv.DictReader(io.StringIO(_read_text(path), newline="")))


def _read_text(path: Path) -> str:
    """A file's text as it stands, empty where there is none."""
    return (read_if_there(path) or b"").decode()


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row per arm, in the order of `rows`: counts, and each metric's mean, std (ddof=1) and 95 % t interval.

    The statistics are over the runs that are done; with fewer than two of them all but the mean stay empty.
    """
    arms: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        arms[row["arm_id"]].append(row)
    return [_summarise_arm(runs) for runs in arms.values()]


def _summarise_arm(runs: Sequence[Row]) -> dict[str, Any]:
    statuses = [run["status"] for run in runs]
    arm: dict[str, Any] = {key: runs[0][key] for key in (*AXES, "settings", "arm_id")}
    arm |= {"runs": statuses.count("done"), "failed": statuses.count("failed"), "diverged": statuses.count("diverged")}
    for metric in SUMMARISED:
        values = [float(run[metric]) for run in runs if run["status"] == "done" and run.get(metric)]
        if values:
            numbers = zip(_PARTS, describe(values), strict=True)
            arm |= {f"{metric}_{part}": number for part, number in numbers if number is not None}
    return arm


def shorten_settings(arms: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Of each arm the settings that tell it from those among `arms` that share its words, without their groups."""
    shared: dict[tuple[str, ...], set[str]] = {}
    for arm in arms:
        words, held = tuple(arm[axis] for axis in AXES), set(arm["settings"].split())
        shared[words] = shared.get(words, held) & held
    telling = [
        [each for each in arm["settings"].split() if each not in shared[tuple(arm[axis] for axis in AXES)]]
        for arm in arms
    ]
    return [shorten(settings, arm["regularizer"]) for settings, arm in zip(telling, arms, strict=True)]


def read_settings(results: Path, exp: str) -> dict[str, dict[str, Any]]:
    """Every setting of each arm, by arm_id, as kept beside the rows.

    Raises:
        UsageError: they are damaged.
    """
    path = results / exp / "arms.json"
    with _telling_damage(path):
        arms: dict[str, dict[str, Any]] = json.loads(_read_text(path) or "{}")
    return arms


@contextmanager
def _telling_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UsageError(
            f"{path} is damaged, or is no table of regbench ({type(error).__name__}).\n"
            "Restore it, or take it away: what is in the folder runs is put into a new one."
        ) from error


def _tell_apart(rows: Iterable[Row], arms: dict[str, dict[str, Any]]) -> None:
    """Fills `settings`: the keys in which arms differ that share the four words."""
    groups: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for arm_id, arm in arms.items():
        groups[tuple(arm[axis] for axis in AXES)].append(arm_id)
    settings: dict[str, str] = {}
    for like in groups.values():
        keys = dict.fromkeys(key for arm_id in like for key in arms[arm_id])
        values = {key: [cell(arms[arm_id].get(key, ADDED_LATER.get(key))) for arm_id in like] for key in keys}
        differing = {key: cells for key, cells in values.items() if len(set(cells)) > 1}
        for i, arm_id in enumerate(like):
            cells = (f"{key}={cells[i] or 'null'}".replace(" ", "") for key, cells in differing.items())
            settings[arm_id] = " ".join(cells)
    for row in rows:
        row["settings"] = settings.get(row["arm_id"], row["settings"])


def _gather_history(results: Path, exp: str, rows: Sequence[Row], records: dict[str, Any]) -> Iterator[Row]:
    old: dict[str, list[Row]] = defaultdict(list)
    for line in read_csv(results / exp / "history.csv"):
        if line["run_id"] not in records:
            old[line["run_id"]].append(line)
    for row in rows:
        identifier = row["run_id"]
        yield from (
            read_csv(run_folder(results, identifier) / "history.csv") if identifier in records else old[identifier]
        )


def order(row: Row) -> tuple[Any, ...]:
    """Like with like, and the unregularized arms first, whatever order the runs were trained in."""
    stack = row["regularizer"]
    return (row["dataset"], row["model"], stack != "none", stack, row["optimizer"], row["settings"], int(row["seed"]))


def cell(value: Any) -> str:
    """A value as it stands in a table: in full, empty for None."""
    return "" if value is None else str(value)
