"""A report is quick: tables come first, and of the figures those alone are drawn whose data or code have changed."""

import shutil
from dataclasses import replace

import pytest
from drawing import DIGITS, METRICS, pick, tables

from bench.cli import main
from bench.record.columns import RUN_COLUMNS
from bench.record.tables import to_csv
from bench.report.figure import figures
from bench.report.figure.figures import NAMES, write_figures

TABLES = tables(pick("none", "sam", seeds="012"))


@pytest.fixture(scope="module")
def drawn_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    assert write_figures(folder, TABLES) == NAMES
    return folder


@pytest.fixture
def redraw(drawn_once, tmp_path):
    """A function: tables -> the names of what is drawn in a folder that has the figures of TABLES."""
    shutil.copytree(drawn_once, tmp_path, dirs_exist_ok=True)

    def redraw(tables):
        told = []
        assert write_figures(tmp_path, tables, told.append) == NAMES
        return [line.partition(": ")[2] for line in told]

    return redraw


def change(rows, column, value="0.5", where=lambda row: True):
    """The rows, with another value in the first for which it holds."""
    chosen = next(i for i, row in enumerate(rows) if where(row))
    return [row | {column: value} if i == chosen else row for i, row in enumerate(rows)]


def test_nothing_is_drawn_twice_whatever_the_times_of_files(redraw, tmp_path):
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for file, content in before.items():
        file.write_bytes(content)  # newer than it was
    assert redraw(TABLES) == []
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("table", "column", "drawn"),
    [
        ("history", "val_nll", "curves"),
        ("reliability", "count", "reliability"),
        ("ensemble", "nll", "ensemble"),
        ("corruptions", "accuracy_mean", "corruptions"),
    ],
)
def test_what_changed_is_drawn_and_only_that(table, column, drawn, redraw):
    of = {"history": ("run_id", TABLES.runs[0]["run_id"]), "ensemble": ("members", "1")}
    of["corruptions"] = ("corruption", "blur")
    key, value = of.get(table, ("scaled", "0"))
    rows = change(getattr(TABLES, table), column, "0.25", lambda row: row[key] == value)
    assert redraw(replace(TABLES, **{table: rows})) == [drawn]
    assert redraw(TABLES) == [drawn]
    assert redraw(TABLES) == []


@pytest.mark.parametrize("metric", METRICS)
def test_another_p_draws_the_differences_anew_and_only_those(metric, redraw):
    changed = next(each for each in TABLES.comparisons if each.metric == metric)
    compared = [replace(each, p_holm=0.25) if each is changed else each for each in TABLES.comparisons]
    drawn = f"{metric}_differences"
    assert redraw(replace(TABLES, comparisons=compared)) == [drawn]
    assert redraw(TABLES) == [drawn]
    assert redraw(TABLES) == []


def test_another_run_changes_all_and_a_run_of_another_arm_s_history_none(redraw):
    strange = [row | {"run_id": "another"} for row in TABLES.history[:1]]
    assert redraw(replace(TABLES, history=[*TABLES.history, *strange])) == []
    assert redraw(replace(TABLES, runs=change(TABLES.runs, "test_accuracy"))) == NAMES


def test_other_code_draws_all_anew(redraw, monkeypatch):
    monkeypatch.setattr(figures, "_digest_code", lambda: "of another version")
    assert redraw(TABLES) == NAMES
    assert redraw(TABLES) == []


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_file_that_is_gone_or_another_s_is_drawn_anew(kind, redraw, tmp_path):
    (tmp_path / f"cost.{kind}").unlink()
    shutil.copy(tmp_path / f"test_nll.{kind}", tmp_path / f"test_ece.{kind}")
    assert redraw(TABLES) == ["test_ece", "cost"]


def test_the_code_s_digest_is_of_all_that_is_installed(monkeypatch):
    before = figures._digest_code()
    monkeypatch.setattr(figures.mpl, "__version__", "0")
    figures._digest_code.cache_clear()
    assert figures._digest_code() != before
    figures._digest_code.cache_clear()


@pytest.mark.parametrize("flags", [(), ("--format", "markdown")])
def test_the_table_is_printed_before_figures_are_drawn(flags, report, tmp_path, capsys, monkeypatch):
    printed = []

    def write_evidence(*_):
        printed.append(capsys.readouterr().out)

    monkeypatch.setattr("bench.report.evidence.write_evidence", write_evidence)
    rest = report(*flags)
    (table,) = printed
    assert "label_smoothing" in table
    assert "Mean over seeds" in table
    assert rest == ("" if flags else f"Page: {tmp_path / 'digits' / 'report.html'}\n")


@pytest.mark.usefixtures("report")
def test_the_tables_of_several_experiments_come_before_all_figures(tmp_path, capsys, monkeypatch):
    shutil.copytree(tmp_path / "digits", tmp_path / "again")
    printed = []
    monkeypatch.setattr("bench.report.evidence.write_evidence", lambda *_: printed.append(capsys.readouterr().out))
    with pytest.raises(SystemExit):
        main(["report", "digits", "again", "--results-dir", str(tmp_path)])
    assert "digits: convnet" in printed[0]
    assert "again: convnet" in printed[0]
    assert "In general" in printed[0]


def test_a_second_report_draws_nothing(tmp_path, monkeypatch, capsys):
    shutil.copytree(DIGITS, tmp_path / "digits")
    (tmp_path / "digits" / "runs.csv").write_text(to_csv(RUN_COLUMNS, TABLES.runs))
    for _ in range(2):
        with pytest.raises(SystemExit):
            main(["report", "digits", "--results-dir", str(tmp_path)])
        monkeypatch.setattr(figures, "to_svg", None)  # calling it is an error
    once, twice = capsys.readouterr().out.split("Page: ")[:2]
    assert twice.endswith(once)
