"""The CSV tables of an experiment, made anew from the records of its runs.

runs.csv has a row per run, history.csv one per run and epoch, summary.csv one per arm, comparison.csv one per arm and
metric against its baseline; arms.json holds every setting of each arm. Which runs an experiment has asked for is in its
asked.txt and its runs.csv; a row whose run folder is not here (a fresh clone with committed tables) is kept as it
stands. Cells are text: a number is written in full once, and read back and written again without a change.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.config import AXES
from bench.config.identity import ADDED_LATER, shorten, show_setting
from bench.config.overrides import show_command
from bench.disk.files import remove_parts, to_csv, write_atomically
from bench.disk.gone import is_file, names_in
from bench.disk.lock import wait_for
from bench.errors import UsageError
from bench.evidence.comparison import COMPARISON_COLUMNS, compare
from bench.evidence.margins import read_margins
from bench.evidence.pairing import read_arms
from bench.evidence.stats import describe
from bench.measure import OF_SOME_RUNS, QUALITIES
from bench.measure.quantities import COSTS
from bench.record.backfill import backfill
from bench.record.columns import PARTS, RUN_COLUMNS, SUMMARISED, SUMMARY_COLUMNS, with_others
from bench.record.folder import HISTORY_COLUMNS, RESULT, check_protocol, read_result, run_folder
from bench.record.probes import read_numbers
from bench.record.read_tables import Row as Row
from bench.record.read_tables import check_identities, explaining_damage, others_columns, read_lines
from bench.record.read_tables import read_csv as read_csv
from bench.record.read_tables import read_settings as read_settings
from bench.status import RECORDED, Status

ASKED, COMMANDS, TUNED = "asked.txt", "commands.txt", "tuned.txt"

_MESSAGE = 1000  # characters; csv reads no cell of more than 131,072

_QUANTITIES = QUALITIES | COSTS


def request_runs(
    results: Path,
    exp: str,
    run_ids: Iterable[str],
    arguments: Sequence[str] = (),
    verb: str = "run",
    tuned: Sequence[str] = (),
) -> None:
    """Notes that the experiment asks for these runs, so that their rows are made whenever they are recorded.

    The command that asks is noted in commands.txt, less what says where and how runs are trained, not which; the
    settings that each arm has of its own are in tuned.txt, and from there in a column `tuned` of runs.csv.

    Raises:
        UsageError: the experiment's tables were written by a newer regbench, are damaged, or are another one's.
        OSError: the results cannot be written to.
    """
    _check_letters(results, exp)
    with wait_for(results / exp):
        rows, arms = read_rows(results, exp), read_settings(results, exp)
        gone = [row for i, row in rows.items() if not is_file(run_folder(results, i) / RESULT)]
        check_identities(results / exp / "runs.csv", gone, arms)
        read_csv(results / exp / "history.csv")
        read_margins()
        asked = read_requested_runs(results, exp)
        new = [identifier for identifier in run_ids if identifier not in asked]
        if new:
            write_atomically(results / exp / ASKED, "".join(f"{identifier}\n" for identifier in [*asked, *new]))
        note_commands(results, exp, [show_command(verb, arguments)] if arguments else [])
        if tuned:
            write_atomically(results / exp / TUNED, "".join(f"{key}\n" for key in tuned))


def _check_letters(results: Path, exp: str) -> None:
    """Raises UsageError where the file system takes the experiment's folder for that of one in other letters."""
    if (results / exp).exists() and exp not in (names := names_in(results)):
        other = next((name for name in names if name.lower() == exp.lower()), "another")
        raise UsageError(
            f"{results / exp} is the folder of {other}: here capital letters and small ones are the same."
            f"\nName the experiment so, exp={other}, or otherwise."
        )


def note_commands(results: Path, exp: str, lines: Iterable[str]) -> None:
    """Adds commands to those that have asked for the experiment's runs."""
    known = read_commands(results, exp)
    new = [line for line in lines if line not in known]
    if new:
        write_atomically(results / exp / COMMANDS, "".join(f"{each}\n" for each in [*known, *new]))


def read_commands(results: Path, exp: str) -> list[str]:
    """The commands that have asked for the experiment's runs, in that order."""
    return read_lines(results / exp / COMMANDS)


def read_tuned(results: Path, exp: str) -> list[str]:
    """The settings that each of the experiment's arms has of its own."""
    rows = read_rows(results, exp).values()
    return read_lines(results / exp / TUNED) or next((row["tuned"].split() for row in rows if row.get("tuned")), [])


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
        rows, arms, records = collect(results, exp)
        write_atomically(folder / "arms.json", json.dumps(arms, indent=1) + "\n")
        write_runs(folder, rows)
        write_history(folder, _gather_history(results, exp, rows, records))
        arms_of_rows = summarise(rows)
        write_atomically(folder / "summary.csv", to_csv(with_others(SUMMARY_COLUMNS, arms_of_rows), arms_of_rows))
        compared = compare(read_arms(rows, arms), margins=read_margins())
        write_atomically(folder / "comparison.csv", to_csv(COMPARISON_COLUMNS, [each.to_row() for each in compared]))
    return rows


def collect(results: Path, exp: str) -> tuple[list[Row], dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The rows of runs.csv, every setting of each arm by arm_id, and the records by run_id; writes no table.

    Raises:
        UsageError: the tables were written by a newer regbench, or are damaged.
    """
    kept = read_rows(results, exp)
    asked = read_requested_runs(results, exp)
    records = {i: record for i in dict.fromkeys([*kept, *asked]) if (record := read_result(run_folder(results, i)))}
    for identifier, record in records.items():
        folder = run_folder(results, identifier)
        row = make_row(backfill(folder, record) | read_numbers(folder, record)) | {"exp": exp}
        kept[identifier] = others_columns(kept.get(identifier, {}), row) | row
    arms = read_settings(results, exp)
    check_identities(results / exp / "runs.csv", [kept[i] for i in kept.keys() - records.keys()], arms)
    for record in records.values():
        arms[record["arm_id"]] = {key: value for key, value in record["config"].items() if key != "seed"}
    if tuned := read_tuned(results, exp):
        kept = {identifier: row | {"tuned": " ".join(tuned)} for identifier, row in kept.items()}
    used = {row["arm_id"] for row in kept.values()}
    arms = {arm: arms[arm] for arm in sorted(arms) if arm in used}
    fill_settings_column(kept.values(), arms)
    return sorted(kept.values(), key=order), arms, records


def write_runs(folder: Path, rows: Collection[Row]) -> None:
    """Writes an experiment's runs.csv; columns that regbench does not know stay, behind its own."""
    write_atomically(folder / "runs.csv", to_csv(with_others(RUN_COLUMNS, rows), rows))


def write_history(folder: Path, rows: Iterable[Row]) -> None:
    """Writes an experiment's history.csv likewise."""
    rows = list(rows)
    write_atomically(folder / "history.csv", to_csv(with_others(HISTORY_COLUMNS, rows), rows))


def experiments(results: Path) -> list[str]:
    """The experiments that have asked for runs, by name."""
    names = [name for name in names_in(results) if name != "runs"]
    return [name for name in names if is_file(results / name / "runs.csv") or is_file(results / name / ASKED)]


def make_row(record: Mapping[str, Any]) -> Row:
    """A record's row of runs.csv, but for what depends on the experiment; log.txt has a long message in full."""
    some = [column for column in OF_SOME_RUNS if record.get(column) is not None]
    row = {column: cell(record.get(column)) for column in (*RUN_COLUMNS, *some)}
    return row | {"message": row["message"][:_MESSAGE]}


def read_rows(results: Path, exp: str) -> dict[str, Row]:
    """The experiment's rows of runs.csv, by run_id.

    Raises:
        UsageError: they were written by a newer regbench, or are damaged.
    """
    path = results / exp / "runs.csv"
    blank = dict.fromkeys(RUN_COLUMNS, "")  # an older regbench had fewer columns
    rows = {row.get("run_id", ""): blank | row for row in read_csv(path)}
    with explaining_damage(path):
        for identifier, row in rows.items():
            if not identifier.isalnum() or row["status"] not in RECORDED or int(row["seed"]) < 0:
                raise ValueError(f"no row of runs.csv: {row}")
            check_protocol(row["protocol_version"], path)
    return rows


def read_requested_runs(results: Path, exp: str) -> dict[str, None]:
    """Which runs the experiment has asked for, in that order.

    Raises:
        UsageError: the list is damaged.
    """
    lines = [line for line in read_lines(results / exp / ASKED) if line]
    with explaining_damage(results / exp / ASKED):
        if not all(line.isalnum() for line in lines):
            raise ValueError("no list of run ids")
    return dict.fromkeys(lines)


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row per arm, in the order of `rows`: counts, and each metric's mean, std (ddof=1) and 95 % t interval.

    The statistics are over the runs that are done; with fewer than two of them all but the mean stay empty. Intervals
    are cut at the ends of the metric's range. The share of runs that diverged is of those that did not fail.
    """
    arms: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        arms[row["arm_id"]].append(row)
    return [_summarise_arm(runs) for runs in arms.values()]


def _summarise_arm(runs: Sequence[Row]) -> dict[str, Any]:
    statuses = [run["status"] for run in runs]
    arm: dict[str, Any] = {key: runs[0][key] for key in (*AXES, "settings", "arm_id")}
    arm |= {
        "runs": statuses.count(Status.DONE),
        "failed": statuses.count(Status.FAILED),
        "diverged": statuses.count(Status.DIVERGED),
    }
    for metric in SUMMARISED:
        values = [float(run[metric]) for run in runs if run["status"] == Status.DONE and run.get(metric)]
        if values:
            mean, deviation, *ends = describe(values)
            clip = _QUANTITIES[metric].clip
            numbers = zip(
                PARTS, (mean, deviation, *(None if each is None else clip(each) for each in ends)), strict=True
            )
            arm |= {f"{metric}_{part}": number for part, number in numbers if number is not None}
    ended = arm["runs"] + arm["diverged"]
    if ended:
        arm["diverged_share"] = arm["diverged"] / ended
    return arm


def shorten_settings(
    arms: Sequence[Mapping[str, Any]], more: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> list[list[str]]:
    """Of each arm the settings that tell it from those among `arms` that share its words, and `more` by arm_id, without
    their groups."""
    shared: dict[tuple[str, ...], set[str]] = {}
    for arm in arms:
        words, held = tuple(arm[axis] for axis in AXES), set(arm["settings"].split())
        shared[words] = shared.get(words, held) & held
    telling = [
        [each for each in arm["settings"].split() if each not in shared[tuple(arm[axis] for axis in AXES)]]
        for arm in arms
    ]
    return [
        shorten(list(dict.fromkeys([*settings, *more.get(arm["arm_id"], ())])), arm["regularizer"])
        for settings, arm in zip(telling, arms, strict=True)
    ]


def fill_settings_column(rows: Iterable[Row], arms: dict[str, dict[str, Any]]) -> None:
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
            settings[arm_id] = " ".join(show_setting(key, cells[i] or None) for key, cells in differing.items())
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
