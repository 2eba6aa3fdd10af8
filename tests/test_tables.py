"""The tables of recorded sweeps, and what is printed of them."""

import csv
import json
import runpy
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from bench import cli
from bench.errors import UsageError
from bench.record import tables
from bench.record.columns import RUN_COLUMNS
from bench.record.experiment import Experiment
from bench.record.folder import run_folder
from bench.record.inventory import delete, find
from bench.report import terminal
from bench.report.layout import make_tables

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def records(tmp_path):
    """A copy of the recorded sweep, without its tables."""
    shutil.copytree(GOLDEN, tmp_path / "results")
    for path in (tmp_path / "results").glob("*/*.csv"):
        path.unlink()
    return tmp_path / "results"


def assert_golden(name, results):
    """Byte for byte, but for the bounds of intervals: SciPy's releases differ in the 11th digit of a t quantile."""
    made, golden = (folder / "digits_smoke" / name for folder in (results, GOLDEN))
    if name not in ("summary.csv", "comparison.csv"):
        assert made.read_text() == golden.read_text()
        return
    for mine, theirs in zip(tables.read_csv(made), tables.read_csv(golden), strict=True):
        assert list(mine) == list(theirs)
        for column, cell in theirs.items():
            if cell and (column.endswith(("_low", "_high")) or column in ("difference", "low", "high", "p", "p_holm")):
                assert float(mine[column]) == pytest.approx(float(cell), rel=1e-9)
            else:
                assert mine[column] == cell, column


@pytest.mark.parametrize("name", ["runs.csv", "summary.csv", "history.csv", "comparison.csv"])
def test_the_tables_of_a_recorded_sweep_are_these(name, records):
    """`python scripts/remake_golden.py` makes them anew after a change that is meant to move them."""
    tables.write_tables(records, "digits_smoke")
    assert_golden(name, records)


def show(records, out, rows=None, width=80):
    """What the terminal prints of the recorded sweep, or of some of its rows."""
    all_rows = tables.write_tables(records, "digits_smoke")
    rows = all_rows if rows is None else rows
    layouts = make_tables(Experiment("digits_smoke", records, rows, tables.read_settings(records, "digits_smoke")))
    with out.open("w") as file:
        terminal.show_comparison(Console(file=file, width=width, highlight=False), layouts, rows)
    return out.read_text()


@pytest.mark.parametrize("width", [80, 160])
def test_the_printed_comparison_is_this_to_the_byte(width, records, tmp_path):
    printed = show(records, tmp_path / "out.txt", width=width)
    assert printed == (GOLDEN / f"comparison_{width}.txt").read_text()
    assert "\x1b" not in printed
    assert max(map(len, printed.splitlines())) <= width


def test_rows_whose_run_folder_is_gone_stay_as_they_stand(records):
    tables.write_tables(records, "digits_smoke")
    shutil.rmtree(records / "runs")
    (records / "digits_smoke" / "asked.txt").unlink()
    tables.write_tables(records, "digits_smoke")
    for name in ("runs.csv", "summary.csv", "history.csv"):
        assert_golden(name, records)


def test_the_tables_begin_with_the_contracts_columns():
    def header(name):
        with (GOLDEN / "digits_smoke" / name).open() as file:
            return next(csv.reader(file))

    assert header("runs.csv")[:25] == (
        "run_id exp dataset model regularizer optimizer seed status epochs train_size batch_size precision device "
        "test_accuracy test_nll test_ece val_accuracy val_nll val_ece train_accuracy train_nll train_ece "
        "gradient_evaluations train_seconds images_per_second".split()
    )
    further = {"arm_id", "settings", "protocol_version", "workers", "threads", "hardware", "images_per_second"}
    assert further <= set(header("runs.csv"))
    assert header("summary.csv")[:13] == (
        "dataset model regularizer optimizer settings arm_id runs failed diverged test_accuracy_mean "
        "test_accuracy_std test_accuracy_low test_accuracy_high".split()
    )
    assert header("comparison.csv") == (
        "dataset model regularizer optimizer settings arm_id baseline metric seeds difference low high p p_holm "
        "improved note family family_size verdict detectable".split()
    )
    assert header("history.csv") == "run_id epoch train_loss val_accuracy val_nll val_ece lr seconds".split()


def test_settings_tell_apart_a_new_arm_from_a_committed_one_whose_records_are_gone(records):
    tables.write_tables(records, "digits_smoke")
    kept = {row["arm_id"]: row for row in tables.read_csv(records / "digits_smoke" / "runs.csv")}
    for row in kept.values():
        if row["regularizer"] == "none":  # both arms of `none`, of which one loses its record
            shutil.rmtree(records / "runs" / row["run_id"])
            break
    rows = [row for row in tables.write_tables(records, "digits_smoke") if row["regularizer"] == "none"]
    assert {row["settings"] for row in rows} == {"optimizer.sgd.lr=0.1", "optimizer.sgd.lr=1e+30"}


def test_a_message_is_printed_as_it_is_and_only_its_first_line(records, tmp_path):
    path = next(iter((records / "runs").iterdir())) / "result.json"
    record = json.loads(path.read_text()) | {
        "status": "failed",
        "message": "RuntimeError: [enforce fail] [/tmp/x]\nmore",
    }
    path.write_text(json.dumps(record))
    assert "Error: [enforce fail] [/tmp/x]\n" in show(records, tmp_path / "out.txt")


def test_a_damaged_record_counts_as_none_and_its_row_stays(records):
    tables.write_tables(records, "digits_smoke")
    next(iter((records / "runs").iterdir())).joinpath("result.json").write_text("{")
    tables.write_tables(records, "digits_smoke")
    assert_golden("runs.csv", records)


def test_the_comparison_prints_settings_that_differ_among_what_it_shows(records, tmp_path):
    rows = [row for row in tables.write_tables(records, "digits_smoke") if row["status"] == "done"]
    assert "lr=" not in show(records, tmp_path / "out.txt", rows)


def test_runs_without_a_number_have_an_empty_cell_and_do_not_count_in_the_means():
    rows = tables.read_csv(GOLDEN / "digits_smoke" / "runs.csv")
    (diverged,) = [row for row in rows if row["status"] == "diverged"]
    assert diverged["test_accuracy"] == diverged["test_nll"] == ""
    (arm,) = [arm for arm in tables.summarise(rows) if arm["arm_id"] == diverged["arm_id"]]
    assert (arm["runs"], arm["diverged"]) == (0, 1)
    assert "test_accuracy_mean" not in arm


def test_settings_tell_apart_arms_that_share_the_four_words():
    rows = tables.read_csv(GOLDEN / "digits_smoke" / "runs.csv")
    settings = {row["settings"] for row in rows if row["regularizer"] == "none"}
    assert settings == {"optimizer.sgd.lr=0.1", "optimizer.sgd.lr=1e+30"}
    assert {row["settings"] for row in rows if row["regularizer"] != "none"} == {""}


def test_the_golden_script_makes_these_files(records):
    """Run on a copy, so that a failing test leaves the golden files as they are."""
    script = runpy.run_path(str(GOLDEN.parents[1] / "scripts" / "remake_golden.py"))
    script["remake"](records)
    for name in ("runs.csv", "summary.csv", "history.csv"):
        assert_golden(name, records)
    for name in ("comparison_80.txt", "comparison.markdown", "comparison.latex", "comparison.html"):
        assert (records / name).read_text() == (GOLDEN / name).read_text()


def test_a_column_that_somebody_added_stays_with_its_rows(records):
    """A note, or what a newer regbench knows."""
    path = records / "digits_smoke" / "runs.csv"
    rows = tables.write_tables(records, "digits_smoke")
    noted = [row | {"note": f"seen, {row['run_id']}"} for row in rows]
    path.write_text(tables.to_csv([*RUN_COLUMNS[:5], "note", *RUN_COLUMNS[5:]], noted))
    shutil.rmtree(run_folder(records, rows[0]["run_id"]))
    assert tables.write_tables(records, "digits_smoke") == noted
    assert tables.read_csv(path) == noted
    delete(records, [run for run in find(records) if run.run_id == rows[1]["run_id"]])
    assert tables.read_csv(path) == [noted[0], *noted[2:]]


def test_a_long_message_is_cut_in_the_tables_and_one_that_is_no_text_can_be_written(records):
    path = next(iter((records / "runs").iterdir())) / "result.json"
    message = "x" * 200_000 + "\ud800"
    record = json.loads(path.read_text()) | {"status": "failed", "message": message}
    path.write_text(json.dumps(record))
    rows = {row["run_id"]: row for row in tables.write_tables(records, "digits_smoke")}
    assert rows[record["run_id"]]["message"] == message[:1000]
    path.write_text(json.dumps(record | {"message": "\ud800 is no text"}))
    tables.write_tables(records, "digits_smoke")
    assert tables.read_rows(records, "digits_smoke")[record["run_id"]]["message"] == "\\ud800 is no text"


def test_a_table_with_a_message_that_an_older_regbench_did_not_cut_is_read(records):
    rows = tables.write_tables(records, "digits_smoke")
    rows[0]["message"] = "x" * 200_000
    (records / "digits_smoke" / "runs.csv").write_text(tables.to_csv(RUN_COLUMNS, rows))
    assert tables.read_rows(records, "digits_smoke")[rows[0]["run_id"]] == rows[0]


DAMAGES = {
    "a bad byte": (("runs.csv", "history.csv", "asked.txt", "commands.txt", "arms.json"), lambda b: b[:-4] + b"\xff\n"),
    "zeros": (("runs.csv", "history.csv", "asked.txt", "arms.json"), lambda b: bytes(len(b))),
    "nothing": (("runs.csv", "history.csv", "arms.json"), lambda b: b""),
    "a cut row": (("runs.csv", "history.csv"), lambda b: b[: b.rindex(b",")]),
    "no number": (("runs.csv", "history.csv"), lambda b: b.replace(b",1.", b",n/a.")),
    "no seed": (("runs.csv",), lambda b: b.replace(b",sgd,0,", b",sgd,1.0,")),
    "no status": (("runs.csv",), lambda b: b.replace(b",done,", b",dane,")),
}


@pytest.mark.parametrize(
    ("name", "damage"), [(name, damage) for damage, (names, _) in DAMAGES.items() for name in names]
)
@pytest.mark.parametrize("command", ["report", "results"])
def test_damaged_text_is_told_in_three_lines_and_not_replaced(command, name, damage, records, capsys):
    folder = records / "digits_smoke"
    (folder / "commands.txt").write_text("regbench run +exp=digits_smoke\n")
    tables.write_tables(records, "digits_smoke")
    shutil.rmtree(records / "runs")  # rows without a record: nothing makes them anew
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(DAMAGES[damage][1](before))
    assert (folder / name).read_bytes() != before
    damaged = (folder / name).read_bytes()
    with pytest.raises(SystemExit) as stop:
        cli.main([command, *(["digits_smoke"] if command == "report" else []), "--results-dir", str(records)])
    told = capsys.readouterr().err
    if stop.value.code == 0:  # a list of runs needs no more than runs.csv and asked.txt
        assert command == "results"
        assert name not in ("runs.csv", "asked.txt")
    else:
        assert stop.value.code == 2
        assert str(folder / name) in told
        assert len(told.splitlines()) <= 3
    assert (folder / name).read_bytes() == damaged


def test_two_names_that_the_file_system_takes_for_one_are_refused(records, monkeypatch):
    """As it does on a Mac, by default: the runs of one experiment got into the tables of the other."""
    listed = tables.names_in
    monkeypatch.setattr(tables, "names_in", lambda path: [n.replace("digits_", "Digits_") for n in listed(path)])
    with pytest.raises(UsageError, match=r"the folder of Digits_smoke.*\n.*exp=Digits_smoke"):
        tables.request_runs(records, "digits_smoke", [])
    monkeypatch.undo()
    tables.request_runs(records, "digits_smoke", [])


@pytest.mark.parametrize("name", ["runs", "history", "reliability", "confusion", "ensemble", "corruptions", "test_set"])
def test_a_table_that_another_one_lies_over_is_named(name, records):
    """A KeyError came of it."""
    tables.write_tables(records, "digits_smoke")
    folder = records / "digits_smoke"
    shutil.copyfile(folder / "summary.csv", folder / f"{name}.csv")
    with pytest.raises(UsageError, match=rf"{name}\.csv is damaged, or is no table"):
        tables.read_csv(folder / f"{name}.csv")


def test_two_columns_of_one_name_are_refused_before_one_is_lost(records):
    tables.write_tables(records, "digits_smoke")
    path = records / "digits_smoke" / "runs.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{header},note,note", *(f"{line},mine,yours" for line in lines)]) + "\n")
    with pytest.raises(UsageError, match=r"runs\.csv is damaged"):
        tables.write_tables(records, "digits_smoke")
    assert "mine,yours" in path.read_text()


def test_a_blank_line_in_the_list_of_runs_is_no_damage(records):
    path = records / "digits_smoke" / "asked.txt"
    path.write_text("\n".join([*(folder.name for folder in (records / "runs").iterdir()), "", ""]))
    assert len(tables.write_tables(records, "digits_smoke")) == len(list((records / "runs").iterdir()))


def test_what_a_newer_regbench_measured_of_another_training_goes_and_a_note_stays(records):
    """Beside the numbers of a training anew it looked like one of them."""
    rows = tables.write_tables(records, "digits_smoke")
    path = records / "digits_smoke" / "runs.csv"
    for trained_anew in (False, True):
        other = {"test_nll": "9"} if trained_anew else {}
        tables.write_runs(path.parent, [row | {"note": "mine", "test_newer": "0.1"} | other for row in rows])
        again = tables.write_tables(records, "digits_smoke")
        assert all(row["note"] == "mine" for row in again)
        assert all(("test_newer" in row) != trained_anew for row in again)


def test_a_run_id_that_a_flipped_bit_has_changed_is_refused_before_anything_trains(records):
    """It came up only when the tables were written at the end."""
    tables.write_tables(records, "digits_smoke")
    file = records / "digits_smoke" / "runs.csv"
    identifier = tables.read_csv(file)[0]["run_id"]
    other = identifier[:-1] + ("0" if identifier[-1] != "0" else "1")
    file.write_text(file.read_text().replace(identifier, other))
    with pytest.raises(UsageError, match=r"runs\.csv is damaged"):
        tables.request_runs(records, "digits_smoke", [identifier])
