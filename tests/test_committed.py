"""The tables in results/: each number of summary.csv and comparison.csv follows from the runs.csv beside it."""

import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import compose
from scipy import stats

from bench.config.identity import data_id
from bench.dataset import load_source
from bench.disk.files import to_csv
from bench.measure.probed import PROBED
from bench.record import tables
from bench.record.data import read_data
from bench.sweep.data import describe_data
from bench.sweep.plan import Command, make_plan

RESULTS = Path(__file__).parents[1] / "results"
EXPERIMENTS = sorted(path.parent.name for path in RESULTS.glob("*/summary.csv"))

differing = runpy.run_path(str(Path(__file__).parent / "reference" / "recompute_comparison.py"))["differing"]


def find_range(column):
    """The least and the largest value that a column can have."""
    if column in ("test_ece_debiased", "test_confidence_gap", "accuracy_gap"):
        return -1, 1
    if column == "nll_gap" or column in PROBED["sharpness"]:
        return -np.inf, np.inf
    if any(word in column for word in ("nll", "temperature", "entropy", "evaluations", "second")):
        return 0, np.inf
    return 0, 2 if "brier" in column else 1


def read(exp, name):
    return tables.read_csv(RESULTS / exp / name)


def values(exp, column):
    """By arm and seed, of the runs that are done."""
    found = {}
    for row in read(exp, "runs.csv"):
        if row["status"] == "done" and row.get(column):
            found.setdefault(row["arm_id"], {})[row["seed"]] = float(row[column])
    return found


def close(cell, number):
    return float(cell) == pytest.approx(number, rel=1e-6, abs=1e-9)


def test_there_are_committed_tables():
    assert {"digits", "fashion", "cheap_sam"} <= set(EXPERIMENTS)


def test_the_digits_are_described_as_they_are():
    (identifier,) = {data_id(arm) for arm in tables.read_settings(RESULTS, "digits").values()}
    assert read_data(RESULTS, identifier) == describe_data(load_source(compose("dataset=digits")[0].dataset))


@pytest.mark.parametrize("exp", EXPERIMENTS)
def test_the_summary_follows_from_the_runs(exp):
    arms, runs = read(exp, "summary.csv"), read(exp, "runs.csv")
    assert sum(int(arm["runs"]) + int(arm["failed"]) + int(arm["diverged"]) for arm in arms) == len(runs)
    columns = [column.removesuffix("_mean") for column in arms[0] if column.endswith("_mean")]
    assert "test_accuracy" in columns
    for column in columns:
        of_arm = values(exp, column)
        for arm in arms:
            numbers = list(of_arm.get(arm["arm_id"], {}).values())
            assert bool(arm[f"{column}_mean"]) == bool(numbers)
            if numbers:
                assert close(arm[f"{column}_mean"], np.mean(numbers))
            if len(numbers) > 1:
                half = stats.t.ppf(0.975, len(numbers) - 1) * stats.sem(numbers)
                assert close(arm[f"{column}_std"], np.std(numbers, ddof=1))
                low, high = (np.clip(np.mean(numbers) + side * half, *find_range(column)) for side in (-1, 1))
                assert close(arm[f"{column}_low"], low)
                assert close(arm[f"{column}_high"], high)


@pytest.mark.parametrize("exp", EXPERIMENTS)
def test_the_comparison_follows_from_the_runs(exp):
    """By a script that shares no line with regbench."""
    assert differing(RESULTS / exp) == []


@pytest.mark.parametrize("column", ["difference", "p_holm", "family", "family_size", "verdict", "detectable"])
def test_the_script_sees_a_number_that_is_wrong(column, tmp_path):
    shutil.copytree(RESULTS / "cheap_sam", tmp_path, dirs_exist_ok=True)
    rows = read("cheap_sam", "comparison.csv")
    rows[1][column] = "another" if column in ("family", "verdict") else str(1.01 * float(rows[1][column]) + 1)
    (tmp_path / "comparison.csv").write_text(to_csv(list(rows[0]), rows))
    (line,) = differing(tmp_path)
    assert line.startswith(column)


@pytest.mark.parametrize("exp", EXPERIMENTS)
def test_every_arm_with_a_baseline_is_compared_with_it(exp):
    """Counted from the words alone: an arm with a regularizer, where there is `none` of the same optimizer."""
    arms = {row["arm_id"]: row for row in read(exp, "summary.csv")}
    none = {(arm["dataset"], arm["model"], arm["optimizer"]) for arm in arms.values() if arm["regularizer"] == "none"}
    expected = {
        identifier
        for identifier, arm in arms.items()
        if arm["regularizer"] != "none" and (arm["dataset"], arm["model"], arm["optimizer"]) in none
    }
    compared = {row["arm_id"] for row in read(exp, "comparison.csv") if arms[row["baseline"]]["regularizer"] == "none"}
    assert expected <= compared


def test_the_committed_runs_keep_their_identity(tmp_path):
    """What is on record must be found: a moved id would have all of it trained again."""
    plan = make_plan(Command("digits", compose("+exp=digits", "seed=0", "train.device=cpu"), tmp_path))
    committed = {row["run_id"] for row in read("digits", "runs.csv") if row["seed"] == "0"}
    assert committed
    assert committed <= {planned.run_id for planned in plan}
