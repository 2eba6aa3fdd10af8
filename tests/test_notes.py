"""What is tested and what is not, as it stands in a table and under it: seeds, marks, intervals and notes."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from test_stats import row, settings_of

from bench.record import tables
from bench.record.columns import RUN_COLUMNS
from bench.record.experiment import Experiment
from bench.report.cells import Cell
from bench.report.figure.arms import estimate
from bench.report.formats import FORMATS
from bench.report.layout import make_tables


def make_rows(values, metric="test_accuracy"):
    """Rows of runs.csv from values by arm: a number, or what the run's status is."""
    rows = []
    for word, each in values.items():
        regularizer, _, optimizer = word.partition("/")
        for seed, value in enumerate(each):
            status = value if isinstance(value, str) else "done"
            number = {} if isinstance(value, str) else {metric: str(value)}
            rows.append(row(regularizer, seed, None, optimizer or "sgd", status, **number))
    blank = dict.fromkeys(RUN_COLUMNS, "")
    return [blank | each for each in rows]


def show(values, metric="test_accuracy", **how):
    rows = make_rows(values, metric)
    (layout,) = make_tables(Experiment("x", Path("results"), rows, settings_of(rows)), [metric], **how)
    return layout, {f"{line.regularizer}/{line.optimizer}": line for line in layout.lines}, " ".join(layout.notes)


def noisy(mean, n=6, seed=0, scale=0.002):
    return list(mean + scale * np.random.default_rng(seed).standard_normal(n))


def test_what_survives_gets_no_mark_but_a_footnote_with_the_difference():
    """Five seeds, of which the baseline diverged in two; the arm's mean is over five, and its test over three."""
    none = [0.91, 0.92, "diverged", 0.90, "diverged"]
    _, lines, notes = show({"none": none, "sam": [0.95, 0.961, 0.4, 0.942, 0.5], "mixup": noisy(0.8, 5)})
    assert [lines[f"{word}/sgd"].cells[0].mark for word in ("sam", "mixup")] == ["", ""]
    assert lines["sam/sgd"].seeds == "5 (3 tested)"
    assert lines["none/sgd"].seeds == "3 (2 diverged)"
    assert "No mark where runs diverged or failed on either side" in notes
    assert "sam sgd (2 diverged of the baseline; 3 common seeds) accuracy % +4.10" in notes
    assert "Diverged: none sgd 2 of 5." in notes
    whole, marked, _ = show({"none": noisy(0.91, 5, 1), "sam": noisy(0.95, 5, 2)})
    assert marked["sam/sgd"].cells[0].mark == "△"
    assert "No mark" not in " ".join(whole.notes)


def test_an_arm_half_of_whose_runs_diverged_has_no_mark_and_its_share_is_tested():
    _, lines, notes = show({"none": noisy(0.9), "sam": [*noisy(0.95, 3, 1), "diverged", "diverged", "diverged"]})
    assert (lines["sam/sgd"].cells[0].mark, lines["sam/sgd"].seeds) == ("", "3 (3 diverged)")
    assert "Diverged: sam sgd 3 of 6 (p 0.25); p of McNemar's exact test" in notes
    rows = make_rows({"none": noisy(0.9), "sam": [0.9, "diverged", "diverged", "failed"]})
    shares = {arm["regularizer"]: arm["diverged_share"] for arm in tables.summarise(rows)}
    assert shares == {"none": 0, "sam": 2 / 3}


def test_fewer_than_three_seeds_are_not_tested_and_two_have_no_interval():
    layout, lines, notes = show({"none": [0.95, 0.97], "sam": [0.96, 0.98]})
    assert "Fewer than 3 seeds: nothing is tested." in notes
    assert not any(word in notes for word in ("▲", "±", "Holm"))
    assert str(lines["none/sgd"].cells[0]) == "96.00"
    assert "±" not in FORMATS["markdown"]([layout])
    assert estimate([0.95, 0.97]).interval is None


def test_no_interval_leaves_the_range_of_its_metric():
    _, lines, notes = show({"none": [0.99, 0.94, 1.0, 0.995], "sam": [0.9, 0.91, 0.92, 0.93]})
    cell = lines["none/sgd"].cells[0]
    assert str(cell) == "98+2−4"  # 98.1 and 4.4 to either side
    assert "It is cut where it would leave the metric's range." in notes
    (arm,) = tables.summarise(make_rows({"none": [0.99, 0.94, 1.0, 0.995]}))
    assert arm["test_accuracy_high"] == 1.0
    (arm,) = tables.summarise(make_rows({"none": [0.01, 0.5, 0.01]}, "test_ece"))
    assert arm["test_ece_low"] == 0.0
    low, high = estimate([0.99, 0.94, 1.0, 0.995], 100, lambda value: min(value, 1)).interval
    assert high == 100
    assert low == pytest.approx(93.75, abs=0.1)


def test_latex_and_html_show_a_cut_interval():
    layout, *_ = show({"none": [0.99, 0.94, 1.0, 0.995], "sam": [0.9, 0.91, 0.92, 0.93]})
    assert "$98^{+2}_{-4}$" in FORMATS["latex"]([layout])
    assert "98+2−4" in FORMATS["html"]([layout])
    assert str(Cell("1", "2", "▲", above="3")) == "1+3−2▲"


def test_the_legend_counts_tests_families_and_marks():
    """Three arms with each of two optimizers: two families of 2; one p survives its own family, not one of 4."""
    base = [0.9, 0.91, 0.92, 0.93, 0.94]
    just = [b + 0.003 + d for b, d in zip(base, (0.0016, -0.0016, 0.002, -0.002, 0), strict=True)]
    same = [b + d for b, d in zip(base, (0.001, -0.001, 0.002, -0.002, 0), strict=True)]
    values = {f"{word}/{o}": base for word in ("none",) for o in ("sgd", "adam")}
    values |= {"a/sgd": just, "b/sgd": same, "a/adam": same, "b/adam": same}
    _, lines, notes = show(values)
    marks = [line.cells[0].mark for line in lines.values() if line.cells[0].mark]
    assert marks == ["△"]
    assert "within each optimizer and metric: 4 tests in 2 families, 1 mark; 0 if the whole table were one" in notes


def test_a_mark_that_the_test_images_do_not_support_is_hollow():
    values = {"none": noisy(0.9, seed=1), "a": noisy(0.95, seed=2), "b": noisy(0.8, seed=3)}
    told = {"arm_id": "a/sgd", "baseline": "none/sgd", "metric": "test_accuracy", "low": "0.01", "high": "0.09"}
    other = told | {"arm_id": "b/sgd", "low": "-0.2", "high": "0.001"}
    _, lines, notes = show(values, test_set=[told, other])
    assert [lines[f"{word}/sgd"].cells[0].mark for word in "ab"] == ["▲", "▽"]
    assert "△, ▽ of seeds alone" in notes
    _, lines, notes = show(values)
    assert [lines[f"{word}/sgd"].cells[0].mark for word in "ab"] == ["△", "▽"]
    assert "of seeds (that of test images is not known here)" in notes


def test_the_csv_of_a_table_whose_runs_diverged_has_the_difference_and_no_corrected_p():
    layout, *_ = show({"none": noisy(0.9), "sam": [*noisy(0.95, 5, 1), "diverged"]})
    none, sam = csv.DictReader(io.StringIO(FORMATS["csv"]([layout])))
    assert float(sam["test_accuracy_difference"]) == pytest.approx(0.05, abs=0.01)
    assert (sam["test_accuracy_p_holm"], sam["diverged"], none["diverged"]) == ("", "1", "0")


def test_a_baseline_that_no_arm_equals_in_all_else_is_named():
    rows = make_rows({"none": noisy(0.9), "sam": noisy(0.95, seed=1)})
    changed = {"arm_id": "augmented", "settings": "dataset.augment=trivial_augment"}
    rows += [each | changed for each in make_rows({"none": noisy(0.8, seed=2)})]
    settings = settings_of(rows)
    settings = {
        key: each | {"dataset.augment": "trivial_augment" if key == "augmented" else "none"}
        for key, each in settings.items()
    }
    experiment = Experiment("x", Path("results"), rows, settings)
    (layout,) = make_tables(experiment, ["test_accuracy"])
    name = "none sgd augment=trivial_augment"
    (note,) = [note for note in layout.notes if "Compared with nothing" in note]
    assert note == (
        f"Compared with nothing, as no other arm equals it in all else: {name}. "
        "To compare it: regbench report x --baseline augmented"
    )
    (chosen,) = make_tables(experiment, ["test_accuracy"], baseline="augmented")
    assert "Compared with nothing" not in " ".join(
        [*chosen.notes, *show({"none": noisy(0.9), "sam": noisy(0.95)})[0].notes]
    )
