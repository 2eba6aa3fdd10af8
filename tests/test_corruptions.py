"""What probes measured, shown: corruptions.csv, the figures of corruptions and of sharpness, and their sections."""

import json
import shutil

import numpy as np
import pytest
from conftest import TINY, needs_browser
from drawing import METRICS, assert_readable, clone, make_corruptions, pick, with_sharpness
from drawing import draw as draw_figure
from drawing import tables as make_tables
from scipy.stats import t
from test_page import _OVERLAPS as OVERLAPS
from test_page import _TEXT_OVERLAPS as TEXT_OVERLAPS
from test_page import OVERFLOWS

from bench.cli import main
from bench.cli import run as app
from bench.disk.files import to_csv
from bench.measure.probed import Measured
from bench.record import tables
from bench.record.corruptions import CORRUPTED_METRICS, CORRUPTION_COLUMNS, write_corruptions
from bench.record.experiment import Experiment
from bench.record.folder import read_result, run_folder, seal, unseal
from bench.record.probes import PROBES, keep_measured
from bench.report.evidence import write_evidence
from bench.report.figure.figures import Tables, draw_figures

COMMAND = (*TINY, "regularizer=none,mixup", "seed=0,1,2", "keep_weights=true")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Three seeds of `none` and Mixup, with what probes measured of them."""
    results = tmp_path_factory.mktemp("recorded")
    assert app.run([*COMMAND, "evaluation=[sharpness,robustness]", f"results_dir={results}"]) == 0
    return results


@pytest.fixture
def results(recorded, tmp_path):
    return shutil.copytree(recorded, tmp_path / "results")


def make(results):
    """The runs and the rows of corruptions.csv."""
    runs = tables.write_tables(results, "adhoc")
    write_corruptions(Experiment.load(results, "adhoc"))
    return runs, tables.read_csv(results / "adhoc" / "corruptions.csv")


def read_measured(results, run):
    content = json.loads((results / "runs" / run["run_id"] / PROBES).read_text())
    return content["probes"]["robustness"]["rows"]


def test_a_row_is_the_mean_over_seeds_with_its_interval(results):
    runs, rows = make(results)
    assert list(rows[0]) == CORRUPTION_COLUMNS
    assert len(rows) == 2 * 16
    for arm_id in {run["arm_id"] for run in runs}:
        own = [run for run in runs if run["arm_id"] == arm_id]
        for row, *of_seeds in zip(
            [row for row in rows if row["arm_id"] == arm_id], *(read_measured(results, run) for run in own), strict=True
        ):
            assert {(each["corruption"], str(each["strength"])) for each in of_seeds} == {
                (row["corruption"], row["strength"])
            }
            assert row["seeds"] == "3"
            assert all(row[word] == own[0][word] for word in ("dataset", "model", "regularizer", "optimizer"))
            for metric in CORRUPTED_METRICS:
                values = [each[metric] for each in of_seeds]
                low, high = t.interval(0.95, 2, np.mean(values), np.std(values, ddof=1) / 3**0.5)
                most = {"nll": np.inf}.get(metric, 1)
                expected = [np.mean(values), np.std(values, ddof=1), max(low, 0), min(high, most)]
                shown = [float(row[f"{metric}_{part}"]) for part in ("mean", "std", "low", "high")]
                assert shown == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_it_agrees_with_the_columns_of_the_runs(results):
    runs, rows = make(results)
    for arm_id in {run["arm_id"] for run in runs}:
        own = [run for run in runs if run["arm_id"] == arm_id]
        clean, *corrupted = (row for row in rows if row["arm_id"] == arm_id)
        assert (clean["corruption"], clean["strength"]) == ("none", "0.0")
        for of_rows, column in (([clean], "test_accuracy"), (corrupted, "corrupted_accuracy")):
            mean = np.mean([float(run[column]) for run in own])
            assert np.mean([float(row["accuracy_mean"]) for row in of_rows]) == pytest.approx(mean)


def test_the_table_of_known_numbers_is_this(results):
    """An interval ends where the metric does; a seed whose logits are not finite is left out; one has no interval."""
    runs = [run for run in tables.write_tables(results, "adhoc") if run["regularizer"] == "none"]
    for run, accuracy in zip(runs, (0.5, 0.75, float("nan")), strict=True):
        folder = run_folder(results, run["run_id"])
        rows = [
            {"corruption": "blur", "strength": 1, "accuracy": accuracy, "nll": 2 * accuracy, "ece": 0.25},
            {"corruption": "jpeg", "strength": 40, "accuracy": 0.5, "nll": 1.0, "ece": 0.25},
        ]
        rows = rows if accuracy != 0.75 else rows[:1]
        keep_measured(folder, read_result(folder), "robustness", Measured({"corrupted_accuracy": 0.5}, rows))
    _, made = make(results)
    made = [row for row in made if row["regularizer"] == "none"]
    made_of = {row.pop("made_of") for row in made}
    assert len(made_of) == 1
    arm = f"{runs[0]['arm_id']},synthetic,mlp,none,sgd,"
    deviation = float(np.std([0.5, 0.75], ddof=1))
    nll = (1.25, 2 * deviation, *(1.25 + sign * 2 * deviation * t.ppf(0.975, 1) / 2**0.5 for sign in (-1, 1)))
    assert nll[2] < 0  # which no NLL is
    first, second = to_csv(made[0], made).splitlines()[1:]
    assert first.rpartition(",")[0].startswith(f"{arm},blur,1,2,0.625,{deviation},0.0,1.0,1.25,{2 * deviation},0.0,")
    assert float(made[0]["nll_high"]) == pytest.approx(nll[3])
    assert [made[0][f"ece_{part}"] for part in ("mean", "std", "low", "high")] == ["0.25", "0.0", "0.25", "0.25"]
    assert second == f"{arm},jpeg,40,2,0.5,0.0,0.5,0.5,1.0,0.0,1.0,1.0,0.25,0.0,0.25,0.25"


def test_runs_that_were_not_measured_do_not_count_and_without_any_there_is_no_table(results):
    _, rows = make(results)
    others = [*TINY, "regularizer=none", "seed=3", f"results_dir={results}"]
    assert app.run(others) == app.run([*others, "exp=plain"]) == 0
    assert make(results)[1] == rows
    path = results / "plain" / "corruptions.csv"
    shutil.copyfile(results / "adhoc" / "corruptions.csv", path)  # of runs that were deleted since, for one
    write_corruptions(Experiment.load(results, "plain"))
    assert not path.exists()


def test_of_a_run_that_is_trained_anew_and_not_measured_nothing_stays(results):
    runs, _ = make(results)
    assert app.run([*TINY, "regularizer=none", "seed=0", "force=true", f"results_dir={results}"]) == 0
    again, rows = make(results)
    assert [bool(run["corrupted_nll"]) for run in again] == [False, *[True] * 5]
    assert [bool(run["sharpness_0_1"]) for run in again] == [False, *[True] * 5]
    assert {row["seeds"] for row in rows if row["arm_id"] == runs[0]["arm_id"]} == {"2"}


def test_rows_are_kept_where_run_folders_are_gone_and_made_anew_where_a_seed_has_come(results):
    _, rows = make(results)
    command = [*TINY, "regularizer=none", "seed=3", "evaluation=[robustness]", f"results_dir={results}"]
    assert app.run(command) == 0
    _, more = make(results)
    assert [row["seeds"] for row in more] == ["4"] * 16 + ["3"] * 16
    assert [row for row in more if row["regularizer"] == "mixup"] == rows[16:]
    shutil.rmtree(results / "runs")
    assert make(results)[1] == more


@pytest.mark.parametrize("measured_there", [set(), {"sharpness"}, {"sharpness", "robustness"}])
def test_a_merge_brings_what_was_measured_of_the_same_trainings(measured_there, results, tmp_path):
    """Trained here, measured there."""
    runs, rows = make(results)
    ours = shutil.copytree(results, tmp_path / "ours")
    for file in (ours / "runs").glob(f"*/{PROBES}"):
        file.unlink()
    for table in (ours / "adhoc").glob("*.csv"):
        table.unlink()
    (ours / "adhoc" / "asked.txt").write_text("".join(f"{run['run_id']}\n" for run in runs))
    for run in runs:
        folder = run_folder(results, run["run_id"])
        kept = unseal((folder / PROBES).read_bytes())
        kept["probes"] = {name: entry for name, entry in kept["probes"].items() if name in measured_there}
        (folder / PROBES).write_bytes(seal(kept))
    with pytest.raises(SystemExit) as stop:
        main(["merge", str(results), "--results-dir", str(ours)])
    assert stop.value.code == 0
    merged, made = make(ours)
    assert made == (rows if "robustness" in measured_there else [])
    assert all(bool(run.get("sharpness_0_1")) == ("sharpness" in measured_there) for run in merged)
    assert (ours / "runs" / runs[0]["run_id"] / PROBES).exists() == bool(measured_there)


def test_merged_results_have_the_same_table(results, tmp_path):
    _, rows = make(results)
    with pytest.raises(SystemExit) as stop:
        main(["merge", str(results), "--results-dir", str(tmp_path / "ours")])
    assert stop.value.code == 0
    assert make(tmp_path / "ours")[1] == rows


def test_report_writes_table_figures_and_sections_and_none_of_them_where_nothing_was_measured(results):
    def report(exp):
        with pytest.raises(SystemExit) as stop:
            main(["report", exp, "--results-dir", str(results)])
        assert stop.value.code == 0
        names = ("corruptions.csv", "figures/corruptions.svg", "figures/sharpness.png")
        return (results / exp / "report.html").read_text(), {(results / exp / name).exists() for name in names}

    page, are_there = report("adhoc")
    assert are_there == {True}
    first, _, second = page.partition("<h2>Corrupted images</h2>")[2].partition("<h2>Flat and sharp minima</h2>")
    assert '<figure id="corruptions"' in first
    assert '<figure id="sharpness"' in second.partition("<h2>")[0]
    assert page.count('<figure id="corruptions"') == page.count('<figure id="sharpness"') == 1
    assert app.run([*TINY, "regularizer=none", "seed=3", f"results_dir={results}", "exp=plain"]) == 0
    page, are_there = report("plain")
    assert are_there == {False}
    assert "Corrupted images" not in page
    assert "Flat and sharp" not in page


def test_a_panel_per_corruption_has_a_line_per_arm_from_the_clean_images_on():
    figure = draw_figure(pick("none", "mixup"), "corruptions")
    names = ["noise", "blur", "contrast", "brightness", "jpeg"]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"{name}, {optimizer}" for optimizer in ("sgd", "adam") for name in names]
    for axes in figure.axes:
        assert [list(line.get_ydata()) for line in axes.lines] == [pytest.approx([90, 80, 70, 60])] * 2
        assert len(axes.collections) == 2  # intervals
    labels = [label.get_text() for label in figure.axes[2].get_xticklabels()]
    assert labels == ["clean", "0.75", "0.5", "0.15"]
    assert_readable(figure)


def test_a_panel_per_kind_of_sharpness_has_a_line_per_arm_from_0_on():
    figure = draw_figure(pick("none", "mixup", seeds="012"), "sharpness")
    kinds = ("sharpness", "m-sharpness", "adaptive sharpness")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"{kind}, {optimizer}" for optimizer in ("sgd", "adam") for kind in kinds]
    run = with_sharpness(pick("none", seeds="1"))[0]  # whose numbers are the mean over the seeds
    for axes, columns in zip(
        figure.axes[:3],
        [
            ("sharpness_0_05", "sharpness_0_1", "sharpness_0_2"),
            ("m_sharpness_0_05", "m_sharpness_0_1", "m_sharpness_0_2"),
            ("adaptive_sharpness_0_5", "adaptive_sharpness_1", "adaptive_sharpness_2"),
        ],
        strict=True,
    ):
        for line in axes.lines:
            assert list(line.get_ydata()) == pytest.approx([0, *(float(run[column]) for column in columns)])
    assert all(list(line.get_xdata()) == [0, 0.05, 0.1, 0.2] for line in figure.axes[0].lines)
    assert_readable(figure)


def test_one_optimizer_is_not_named_and_few_seeds_have_no_interval():
    runs = [run for run in pick("none", "sam", seeds="01") if run["optimizer"] == "sgd"]
    figure = draw_figure(runs, "sharpness")
    assert figure.axes[0].get_title(loc="left") == "sharpness"
    assert not any(axes.collections for axes in figure.axes)
    assert "intervals" not in figure.get_supxlabel()
    assert_readable(figure)


def test_no_figure_without_measures_or_of_more_lines_than_can_be_told_apart():
    names = [name for name, _ in draw_figures(Tables(pick("none", "sam")))]
    assert names == [*METRICS, "cost", "calibration"]
    runs = [run for i in range(13) for run in clone(pick("sam"), settings=f"regularizer.sam.rho=0.{i}")]
    assert not {"corruptions", "sharpness"} & dict(draw_figures(make_tables(runs))).keys()


@pytest.fixture(scope="module")
def page_of_digits(page, tmp_path_factory):
    folder = shutil.copytree(page.parent, tmp_path_factory.mktemp("probed") / "digits")
    runs = with_sharpness(tables.read_csv(folder / "runs.csv"))
    (folder / "runs.csv").write_text(to_csv(runs[0] | dict.fromkeys(key for run in runs for key in run), runs))
    (folder / "corruptions.csv").write_text(to_csv(CORRUPTION_COLUMNS, make_corruptions(runs)))
    write_evidence(Experiment.load(folder.parent, "digits"))
    return folder / "report.html"


@needs_browser
@pytest.mark.parametrize("width", [400, 1280])
def test_the_sections_fit_all_windows(width, page_of_digits, browser):
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto(page_of_digits.as_uri())
    assert tab.locator("figure#corruptions").count() == tab.locator("figure#sharpness").count() == 1
    assert tab.evaluate(OVERFLOWS) == tab.evaluate(OVERLAPS) == tab.evaluate(TEXT_OVERLAPS) == []
    tab.close()
