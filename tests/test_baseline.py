"""`regbench report --baseline`: with whom arms are compared in print, and what is said of it."""

from pathlib import Path

import pytest
from scipy import stats

from bench.evidence.pairing import Arm, name_differences
from bench.evidence.stats import holm
from bench.record import tables
from bench.record.experiment import Experiment
from bench.report.layout import make_tables

RESULTS = Path(__file__).parent / "tables"


def read_rows():
    return tables.read_csv(RESULTS / "digits" / "runs.csv")


def find_arm(regularizer, optimizer="sgd"):
    return next(r["arm_id"] for r in read_rows() if (r["regularizer"], r["optimizer"]) == (regularizer, optimizer))


def test_any_arm_can_be_the_baseline_and_what_differs_is_named():
    """`sam` at one learning rate against `none` at another, and against Adam, with the numbers of SciPy."""
    settings = tables.read_settings(RESULTS, "digits")
    none, sam = find_arm("none"), find_arm("sam")
    settings[sam] = settings[sam] | {"optimizer.sgd.lr": 0.7, "dataset.train_size": 50}
    (layout,) = make_tables(Experiment("digits", RESULTS, read_rows(), settings), ["nll"], baseline=none)
    lines = {(line.regularizer, line.optimizer): line for line in layout.lines}
    assert lines["sam", "sgd"].settings == ["train_size=50", "lr=0.7"]
    assert lines["none", "adam"].settings == [f"lr={settings[find_arm('none', 'adam')]['optimizer.adam.lr']}"]
    assert lines["mixup", "sgd"].settings == []
    assert sorted(lines["none", "sgd"].settings) == [f"lr={settings[none]['optimizer.sgd.lr']}", "train_size=100"]
    values = {
        arm: [float(row["test_nll"]) for row in read_rows() if row["arm_id"] == arm]
        for arm in (line.arm["arm_id"] for line in layout.lines)
    }
    p = {arm: stats.ttest_rel(each, values[none]).pvalue for arm, each in values.items() if arm != none}
    corrected = dict(zip(p, holm(list(p.values())), strict=True))
    for line in layout.lines:
        arm = line.arm["arm_id"]
        if arm != none:
            assert line.arm["baseline"] == none
            assert line.arm["test_nll_p_holm"] == pytest.approx(corrected[arm])
            assert bool(line.cells[0].mark) == (corrected[arm] < 0.05)
    assert any(line.cells[0].mark for line in layout.lines)
    notes = " ".join(layout.notes)
    assert f"worse than `{none}` (none sgd " in notes
    assert "all else equal" not in notes


def test_settings_of_one_side_alone_are_named_but_for_those_that_words_tell():
    base = {"regularizer": "none", "optimizer": "sgd", "train.epochs": 5}
    arm = base | {"regularizer": "sam", "regularizer.sam.rho": 1, "model.weights": "ab", "dataset.flips": True}
    arm |= {"optimizer": "adam", "optimizer.adam._target_": "Adam", "optimizer.adam.lr": 0.1, "optimizer.adam.eps": 1}
    one, other = Arm({}, arm), Arm({}, base | {"optimizer.sgd._target_": "SGD", "optimizer.sgd.lr": 0.5})
    assert name_differences(one, other) == ["model.weights=ab", "optimizer.adam.lr=0.1"]
    assert name_differences(other, one) == ["optimizer.sgd.lr=0.5", "model.weights=null"]
    assert name_differences(one, Arm({}, arm | {"dataset.flips": False})) == ["dataset.flips=True"]


def test_a_baseline_that_equals_no_arm_is_not_called_unfinished():
    settings = tables.read_settings(RESULTS, "digits")
    rows = [row for row in read_rows() if row["arm_id"] in (find_arm("none"), find_arm("sam"))]
    settings[find_arm("sam")] = settings[find_arm("sam")] | {"optimizer.sgd.lr": 0.7}
    (layout,) = make_tables(Experiment("digits", RESULTS, rows, settings))
    assert "finished" not in " ".join(layout.notes)
    assert layout.notes[-1].endswith(f"regbench report digits --results-dir {RESULTS} --baseline {find_arm('none')}")
    rows = [row for row in rows if (row["regularizer"] == "sam") == (int(row["seed"]) > 2)]
    (layout,) = make_tables(Experiment("digits", RESULTS, rows, settings), baseline=find_arm("none"))
    assert "no seed of its finished runs is another arm's" in layout.notes[-1]


def test_arms_that_the_baseline_does_not_equal_are_counted_as_without_marks():
    settings = tables.read_settings(RESULTS, "digits")
    assert "Without marks" not in " ".join(make_tables(Experiment("digits", RESULTS, read_rows(), settings))[0].notes)
    settings[find_arm("sam")] = settings[find_arm("sam")] | {"optimizer.sgd.lr": 0.7}
    notes = " ".join(make_tables(Experiment("digits", RESULTS, read_rows(), settings))[0].notes)
    assert "Without marks, as no `none` equals them in all else: 1 of 20 arms." in notes


def test_a_time_that_is_unknown_does_not_unmake_a_comparison():
    rows = [row | {"hardware": ""} for row in read_rows()]
    (layout,) = make_tables(Experiment("digits", RESULTS, rows, tables.read_settings(RESULTS, "digits")))
    assert "Nothing here has a baseline" not in " ".join(layout.notes)
    assert any(cell.mark for line in layout.lines for cell in line.cells)
