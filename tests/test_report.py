import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.evidence.comparison import Comparison
from bench.evidence.pairing import Arm
from bench.measure import QUALITIES
from bench.measure.quantities import COSTS, Quantity
from bench.record import tables
from bench.record.columns import RUN_COLUMNS, SUMMARISED
from bench.record.experiment import Experiment
from bench.report.cells import describe_p, make_mark, print_with_half
from bench.report.formats import FORMATS
from bench.report.layout import describe_protocol, make_tables

RESULTS = Path(__file__).parent / "tables"


def lay_out_digits(**how):
    rows = tables.read_csv(RESULTS / "digits" / "runs.csv")
    (layout,) = make_tables(Experiment("digits", RESULTS, rows, tables.read_settings(RESULTS, "digits")), **how)
    return layout


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (0.95142, 0.0108, ("95.1", "1.1")),
        (0.95142, 0.0080, ("95.1", "0.8")),
        (0.95142, 0.0354, ("95.1", "3.5")),
        (0.95142, 0.0356, ("95", "4")),
        (0.95142, 0.00961, ("95.1", "1.0")),
        (0.95142, 0.14, ("95", "14")),
        (0.95142, 0.00021, ("95.142", "0.021")),
        (0.95142, 0.0, ("95.14", "0.00")),
        (0.95142, None, ("95.14", "")),
    ],
)
def test_a_value_has_the_decimals_that_its_interval_supports(mean, half, text):
    assert print_with_half(QUALITIES["test_accuracy"], mean, half) == text


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (4.3194775814286819e19, None, ("4.3e+19", "")),
        (4.3194775814286819e19, 5.5e20, ("4.3e+19", "5.5e+20")),
        (12.5, 173335034.0, ("12", "1.7e+08")),
        (1234.5, 6.0, ("1234", "6")),
    ],
)
def test_huge_numbers_are_short(mean, half, text):
    assert print_with_half(QUALITIES["test_nll"], mean, half) == text


@pytest.mark.parametrize(("p", "text"), [(None, ""), (0.5, "0.5"), (0.01234, "0.012"), (0.00001, "< 0.0001")])
def test_p_has_two_figures(p, text):
    assert describe_p(p) == text


def test_marks_are_those_of_comparison_csv(report, tmp_path):
    report()
    rows = tables.read_csv(tmp_path / "digits" / "comparison.csv")
    none = {row["arm_id"] for row in rows if row["regularizer"] == "none"}
    none |= {row["baseline"] for row in rows if row["arm_id"] in none}
    compared = {(row["arm_id"], row["metric"]): row for row in rows if row["baseline"] in none}
    test_set = tables.read_csv(RESULTS / "digits" / "test_set.csv")
    beyond = {
        (row["arm_id"], row["metric"]): float(row["low"]) > 0 or float(row["high"]) < 0
        for row in test_set
        if row["baseline"] in none
    }
    layout, without = lay_out_digits(test_set=test_set), lay_out_digits()
    for line, hollow in zip(layout.lines, without.lines, strict=True):
        for quantity, cell, other in zip(layout.quantities, line.cells, hollow.cells, strict=False):
            row = compared.get((line.arm["arm_id"], quantity.column))
            if line.regularizer == "none":
                assert cell.mark == ""
            else:
                significant = float(row["p_holm"]) < 0.05
                better = (float(row["difference"]) > 0) == (quantity.better == "higher")
                marks = "▲△" if better else "▼▽"
                assert cell.mark == marks[not beyond[line.arm["arm_id"], quantity.column]] * significant
                assert other.mark == marks[1] * significant  # where nothing is known of test images
    assert any(cell.mark == "▲" for line in layout.lines for cell in line.cells)
    assert any(cell.mark == "▼" for line in layout.lines for cell in line.cells)


def test_sorting_is_best_first(report):
    for metric, best_first in (("accuracy", -1), ("test_nll", 1)):
        column = f"test_{metric.removeprefix('test_')}_mean"
        means = [line.arm[column] for line in lay_out_digits(sort=metric).lines]
        assert means == sorted(means, key=lambda mean: best_first * mean)
    assert report("--sort", "ece").splitlines()[5].split()[:2] == ["asam", "sgd"]


def test_time_is_relative_to_the_baseline_and_only_between_equal_machines():
    rows = tables.read_csv(RESULTS / "digits" / "runs.csv")
    settings = tables.read_settings(RESULTS, "digits")
    (layout,) = make_tables(Experiment("digits", RESULTS, rows, settings))
    times = {(line.regularizer, line.optimizer): str(line.cells[-1]) for line in layout.lines}
    assert times["none", "sgd"] == "1.0"
    seconds = {
        (row["regularizer"], row["seed"]): float(row["train_seconds"]) for row in rows if row["optimizer"] == "sgd"
    }
    ratios = [seconds["sam", str(seed)] / seconds["none", str(seed)] for seed in range(5)]
    farther = max(np.median(ratios) - min(ratios), max(ratios) - np.median(ratios))
    assert times["sam", "sgd"] == f"{np.median(ratios):.1f}±{farther:.1f}".replace("±0.", "±.")
    for row in rows:
        if row["regularizer"] == "sam":
            row["hardware"] = "another"
    (layout,) = make_tables(Experiment("digits", RESULTS, rows, settings))
    times = {(line.regularizer, line.optimizer): str(line.cells[-1]) for line in layout.lines}
    assert times["sam", "sgd"] == ""
    assert times["mixup", "sgd"] != ""


def test_the_protocol_is_in_every_format(report):
    for flags in ((), *(("--format", name) for name in FORMATS if name != "csv")):
        printed = " ".join(report(*flags).replace("\\_", "_").split())
        for told in ("read once after the last epoch", "5 seeds", "40 epochs", "100 training images", "batches of 20"):
            assert told in printed


def test_csv_has_every_number_in_full(report):
    rows = list(csv.DictReader(io.StringIO(report("--format", "csv", "--metric", "nll"))))
    summary = {row["arm_id"]: row for row in tables.read_csv(RESULTS / "digits" / "summary.csv")}
    assert len(rows) == 20
    assert all(row["test_nll_mean"] == summary[row["arm_id"]]["test_nll_mean"] for row in rows)
    assert "test_accuracy_mean" not in rows[0]
    assert {row["exp"] for row in rows} == {"digits"}
    by_id = {row["arm_id"]: row for row in rows}
    for row in rows:
        baseline = by_id.get(row["baseline"])
        if row["regularizer"] == "none":
            assert baseline is None
        else:
            assert (baseline["regularizer"], baseline["optimizer"]) == ("none", row["optimizer"])


def test_a_budget_is_told_of_those_arms_alone_that_have_one(report):
    rows = tables.read_csv(RESULTS / "digits" / "runs.csv")
    settings = {row["arm_id"]: {"train.gradient_evaluations": None} for row in rows}
    assert "5 seeds, 40 epochs, 100" in describe_protocol(rows, settings)
    settings[rows[0]["arm_id"]]["train.gradient_evaluations"] = 1000
    assert "5 seeds, 1,000 gradient evaluations or 40 epochs, 100" in describe_protocol(rows, settings)
    every = {arm_id: {"train.gradient_evaluations": 1000} for arm_id in settings}
    assert "5 seeds, 1,000 gradient evaluations, 100" in describe_protocol(rows, every)


def test_markdown_is_a_table(report):
    lines = [line for line in report("--format", "markdown", "--metric", "accuracy").splitlines() if line[:1] == "|"]
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0] == "| regularizer | optimizer | seeds | accuracy % | evals | time |"
    assert lines[1] == "| :--- | :--- | ---: | ---: | ---: | ---: |"
    assert len(lines) == 22


def test_another_baseline_is_named_and_is_none_s_business_in_the_table_alone(report, tmp_path):
    report()
    before = (tmp_path / "digits" / "comparison.csv").read_text()
    printed = report("--baseline", "sam")
    assert "than `sam` with all else equal" in printed
    assert (tmp_path / "digits" / "comparison.csv").read_text() == before
    settings = {
        row["arm_id"] for row in tables.read_csv(tmp_path / "digits" / "runs.csv") if row["regularizer"] == "sam"
    }
    assert report("--baseline", sorted(settings)[0])


def test_a_mark_goes_by_the_mean_and_tells_no_direction_where_the_test_has_none():
    arm = Arm({"arm_id": "a"}, {})
    better = Comparison(arm, arm, "test_accuracy", 5, difference=0.4, p_holm=0.01, improved=0.45)
    assert make_mark(better) == "▲"
    assert make_mark(replace(better, metric="test_nll")) == "▼"
    assert make_mark(replace(better, metric="test_confidence_gap")) == "≠"  # -0.05 is as far from 0 as 0.05
    assert make_mark(replace(better, metric="accuracy_gap")) == "≠"  # underfitting closes it, too
    assert make_mark(better, beyond_images=False) == "△"
    assert make_mark(replace(better, metric="test_nll"), beyond_images=False) == "▽"
    assert make_mark(replace(better, p_holm=0.05)) == make_mark(replace(better, p_holm=None)) == ""


def test_a_metric_that_no_run_has_and_a_cost_leave_the_baseline_alone():
    for metric in ("test_worst_class_accuracy", "images_per_second"):
        layout = lay_out_digits(metrics=[metric])
        assert all(line.cells[-1].mean for line in layout.lines)


def test_a_baseline_of_one_model_is_none_of_the_other():
    rows, settings = tables.read_csv(RESULTS / "cifar_sam" / "runs.csv"), tables.read_settings(RESULTS, "cifar_sam")
    arm = next(row["arm_id"] for row in rows if (row["model"], row["regularizer"]) == ("resnet8", "sam"))
    one, other = make_tables(Experiment("cifar_sam", RESULTS, rows, settings), baseline=arm)
    assert "than" in " ".join(one.notes)
    assert "Nothing here has a baseline" in " ".join(other.notes)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--metric", "loss"), "there is no metric loss.\nThere are: test_accuracy"),
        (("--sort", "speed"), "there is no metric speed."),
        (("--baseline", "nope"), "the regularizer or the arm_id nope.\nThere are: none, asam"),
    ],
)
def test_bad_flags_are_told(flags, told, report):
    error = report(*flags, code=2)
    assert told in error
    assert error.count("\n") <= 3


def test_every_number_of_the_tables_is_described():
    described = {*QUALITIES, *COSTS}
    numbers = {column for column in RUN_COLUMNS if column.startswith(("test_", "val_", "nll_", "accuracy_"))}
    assert described >= {*numbers, "temperature", "train_nll", "train_seconds"}
    assert {*SUMMARISED} == described
    assert all(isinstance(quantity, Quantity) and quantity.title for quantity in QUALITIES.values())


def test_huge_numbers_are_short_in_every_format(tmp_path):
    rows = [
        row | {"test_nll": str(1e19 * float(row["test_nll"]))}
        for row in tables.read_csv(RESULTS / "digits" / "runs.csv")
    ]
    layouts = make_tables(Experiment("digits", RESULTS, rows, tables.read_settings(RESULTS, "digits")))
    for name in ("markdown", "html", "latex"):
        assert not re.search(r"\d{12}(?![\d<\"a-f])", FORMATS[name](layouts)), name
    assert re.search(r"\$\d\.\d \\times 10\^\{1[89]\} \\pm \d\.\d \\times 10\^\{1[789]\}\$", FORMATS["latex"](layouts))
    (layout,) = make_tables(Experiment("digits", RESULTS, rows[:1], {}))
    assert re.search(r"& \$\d\.\d \\times 10\^\{18\}\$ &", FORMATS["latex"]([layout]))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (Debian: texlive-latex-recommended)")
def test_latex_compiles_with_booktabs_alone(report, tmp_path):
    tables_ = report("--format", "latex", "--metric", "accuracy", "--metric", "temperature", "--metric", "nll")
    hostile = tables_.replace(
        "weight\\_decay", FORMATS["latex"](_hostile_layout()).split("\\midrule\n")[1].split(" & ")[0]
    )
    (tmp_path / "a.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n" + hostile + "\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


def _hostile_layout():
    """A layout whose one arm is called by every character that LaTeX acts upon."""
    layout = lay_out_digits()
    line = layout.lines[0]
    odd = type(line)("a_b&c%d$e#f{g}h~i^j\\k<l>m|n", *list(vars(line).values())[1:])
    return [type(layout)(*[[odd] if key == "lines" else value for key, value in vars(layout).items()])]


def test_html_and_markdown_take_no_orders_from_names():
    layouts = _hostile_layout()
    assert "<l>" not in FORMATS["html"](layouts)
    assert "m\\|n" in FORMATS["markdown"](layouts)
    assert not re.search(r"[^\\]&(?! )", FORMATS["latex"](layouts).split("\\midrule")[1].split(" & ")[0])


def test_the_commands_that_asked_are_kept_less_what_says_where(tmp_path):
    asked = ["+exp=x", "seed=0,1", f"results_dir={tmp_path}", "hydra/launcher=joblib", "force=true", "-m", "a=[b, c]"]
    for _ in range(2):
        tables.request_runs(tmp_path, "x", ["1"], [*asked, "hydra.sweeper.params.seed=0"])
    kept = "regbench run +exp=x seed=0,1 'a=[b, c]' hydra.sweeper.params.seed=0"
    assert tables.read_commands(tmp_path, "x") == [kept]
