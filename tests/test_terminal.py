"""What is printed of tables: whole cells and whole names, in a pipe and on a terminal of any width."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from bench.cli import doctor
from bench.console.blocks import print_table
from bench.console.wrap import wrap
from bench.record import tables
from bench.record.experiment import Experiment
from bench.report import terminal
from bench.report.layout import make_tables
from bench.speed import measure as speed
from bench.sweep.describe import describe_epoch, describe_result

RESULTS = Path(__file__).parent / "tables"
FIVE = ["accuracy", "nll", "ece", "brier", "top5_accuracy"]


def show(width, is_terminal, metrics=FIVE, **changes):
    """The layout of an experiment and the lines that are printed of it; `changes` are made to every row."""
    rows = [row | changes for row in tables.read_csv(RESULTS / "fashion" / "runs.csv")]
    layouts = make_tables(Experiment("fashion", RESULTS, rows, tables.read_settings(RESULTS, "fashion")), metrics)
    return layouts[0], print_lines(lambda console: terminal.show_comparison(console, layouts, rows), width, is_terminal)


def print_lines(act, width, is_terminal):
    file = io.StringIO()
    act(Console(file=file, width=width, force_terminal=is_terminal, color_system=None, highlight=False))
    return file.getvalue().splitlines()


def find_lines(lines, line):
    return [each.split() for each in lines if each.split()[:2] == [line.regularizer, line.optimizer]]


def test_what_is_piped_takes_the_width_it_needs_and_each_line_names_its_arm():
    layout, lines = show(80, is_terminal=False)
    for line in layout.lines:
        assert find_lines(lines, line) == [[line.regularizer, line.optimizer, line.seeds, *map(str, line.cells)]]


@pytest.mark.parametrize("width", [20, 45, 80, 100, 160])
def test_on_a_terminal_no_cell_is_cut_and_each_block_names_its_arms(width):
    layout, lines = show(width, is_terminal=True)
    for line in layout.lines:
        if width >= 45 or "+" not in line.regularizer:
            blocks = find_lines(lines, line)
            assert [cell for block in blocks for cell in block[2:]] == [line.seeds, *map(str, line.cells)]
            assert len(blocks) == sum(each.startswith("regularizer") for each in lines)
    assert width < 45 or max(map(len, lines)) <= width


def test_a_table_that_fits_is_one_block():
    assert sum(line.startswith("regularizer") for line in show(160, is_terminal=True)[1]) == 1
    assert sum(line.startswith("regularizer") for line in show(80, is_terminal=True)[1]) == 2


def test_a_stack_breaks_after_a_plus_alone_and_only_where_it_must():
    rows = [["mixup+label_smoothing+sam\n  sam.rho=0.1", "1.0"]]

    def names(width):
        lines = print_lines(lambda console: print_table(console, ["regularizer", "NLL"], rows), width, True)
        return [line.split("1.0")[0].strip() for line in lines[1:]]

    assert names(40) == ["mixup+label_smoothing+sam", "sam.rho=0.1"]
    assert names(28) == ["mixup+label_smoothing+", "sam", "sam.rho=0.1"]
    assert names(8) == ["mixup+", "label_smoothing+", "sam", "sam.rho=0.1"]


def test_text_in_figures_breaks_after_a_plus_and_no_number_does():
    assert wrap("mixup+label_smoothing+sam · sgd", 24) == ["mixup+label_smoothing+", "sam · sgd"]
    assert wrap("sam + rho 4.3e+19", 12) == ["sam + rho", "4.3e+19"]


def test_names_are_printed_as_they_are():
    _, lines = show(200, is_terminal=False, dataset="[b]:car:[/b]", regularizer=":smile:[red]")
    assert "fashion: convnet on [b]:car:[/b]" in lines
    assert find_lines(lines, type("Line", (), {"regularizer": ":smile:[red]", "optimizer": "sgd"}))


def test_a_table_of_speeds_is_not_cut():
    row = {"model": "m", "dataset": "d", "batch_size": 8, "hardware": "h", "name": "mixup+label_smoothing+sam"}
    row |= {
        "what": "training",
        "precision": "fp32",
        "images_per_second": 1e6,
        "ratio": 0.98765,
        "peak_memory_mib": 12345,
    }
    row |= {"ratio_low": 0.9, "ratio_high": 1.1, "to_script": 12.5, "to_script_fp32": 20.25}
    cells = ["mixup+label_smoothing+sam", "fp32", "1,000,000", "0.988", "0.900-1.100", "12.50", "20.25", "12,345"]
    assert print_lines(lambda console: speed._show(console, [row]), 40, False)[2].split() == cells
    narrow = print_lines(lambda console: speed._show(console, [row]), 60, True)
    found = [line.split() for line in narrow if line.startswith(row["name"])]
    assert len(found) > 1
    assert [cell for line in found for cell in line[1:]] == cells[1:]


def test_doctor_leaves_a_space_after_a_long_name(capsys):
    doctor._show("data sets", [("a_data_set_of_a_very_long_name", "needs no files")])
    assert "a_data_set_of_a_very_long_name needs no files" in capsys.readouterr().out


def test_the_line_of_a_run_holds_huge_numbers_short():
    result = {"status": "done", "message": "", "test_accuracy": 0.1, "test_nll": 4.3194775814286819e19, "test_ece": 0.9}
    assert "NLL 4.3e+19, " in describe_result(result | {"train_seconds": 1.0})
    assert "loss 4.3e+19, " in describe_epoch({"train_loss": 4.3194775814286819e19}, 10, 60)


def test_hashes_are_printed_as_8_digits():
    one, other = "0123456789abcdef" * 4, "fedcba9876543210" * 4
    rows = tables.read_csv(RESULTS / "fashion" / "runs.csv")[:2]
    for row, fingerprint in zip(rows, (one, f"{other[:32]}+{one[:32]}"), strict=True):
        row |= {"arm_id": fingerprint[:12], "settings": f"fingerprint={fingerprint}", "regularizer": "sam"}
    layouts = make_tables(Experiment("fashion", RESULTS, rows, {}))
    lines = print_lines(lambda console: terminal.show_comparison(console, layouts, rows), 80, False)
    assert [line.strip() for line in lines if "fingerprint" in line] == ["fingerprint=01234567", "fingerprint=fedcba98"]
    assert not re.search(r"[0-9a-f]{13}", "\n".join(lines))
