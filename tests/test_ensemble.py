"""An arm's runs as one model: the rows of ensemble.csv, and what the page says of them."""

import shutil
from dataclasses import replace
from itertools import combinations
from math import comb, log

import numpy as np
import pytest
from conftest import TINY, needs_browser
from drawing import assert_readable, clone, make_ensemble, pick
from drawing import draw as draw_figure
from drawing import tables as make_tables
from scipy.special import softmax
from test_page import _OVERLAPS as OVERLAPS
from test_page import _TEXT_OVERLAPS as TEXT_OVERLAPS
from test_page import OVERFLOWS
from test_page_numbers import Tables, shows

from bench.cli import main
from bench.cli import run as app
from bench.disk.files import to_csv
from bench.evidence.ensemble import ENSEMBLE_METRICS, MOST_SUBSETS, choose_subsets, ensemble
from bench.measure import metric
from bench.record import tables
from bench.record.experiment import Experiment
from bench.record.logit_tables import ENSEMBLE_COLUMNS, write_logit_tables
from bench.record.logits import read_logits
from bench.report.evidence import write_evidence
from bench.report.figure.figures import Tables as FigureTables
from bench.report.figure.figures import draw_figures
from bench.report.page import write_page


def draw(runs, n=300, classes=7):
    random = np.random.default_rng(0)
    labels = random.integers(classes, size=n)
    noise = random.standard_normal((runs, n, classes))
    return list((2 * noise + 2 * np.eye(classes)[labels]).astype(np.float32)), labels


def restate(logits, labels, members):
    """The four metrics of the logarithm of mean probabilities, mean over all subsets."""
    means = [np.mean(softmax(each, axis=2), axis=0) for each in combinations(np.float64(logits), members)]
    return [np.mean([getattr(metric, name)(np.log(probs), labels) for probs in means]) for name in ENSEMBLE_METRICS]


@pytest.mark.parametrize(("n", "classes"), [(300, 7), (2000, 100)])  # the latter in several blocks of images
def test_it_is_the_metrics_of_mean_probabilities_averaged_over_subsets(n, classes):
    logits, labels = draw(4, n, classes)
    rows = ensemble(logits, labels)
    assert [(row["members"], row["subsets"]) for row in rows] == [(1, 4), (2, 6), (3, 4), (4, 1)]
    for row in rows:
        ours = [row[name] for name in ENSEMBLE_METRICS]
        assert ours == pytest.approx(restate(logits, labels, row["members"]), abs=1e-9)


def test_two_runs_by_hand():
    """The mean of logits would give the second image's label 0.63, that of probabilities gives it 0.575."""
    first = np.log([[0.9, 0.1], [0.1, 0.9]])
    second = np.log([[0.5, 0.5], [0.75, 0.25]])
    one, two = ensemble([first, second], np.array([0, 1]))
    assert one["accuracy"] == 0.75  # of equal probabilities the first is the prediction
    assert one["nll"] == pytest.approx(-(2 * log(0.9) + log(0.5) + log(0.25)) / 4)
    assert (two["members"], two["subsets"], two["accuracy"]) == (2, 1, 1.0)
    assert two["nll"] == pytest.approx(-(log(0.7) + log(0.575)) / 2)
    assert two["ece"] == pytest.approx((0.3 + 0.425) / 2)


def test_more_members_are_never_worse_in_nll_and_equal_runs_gain_nothing():
    """The first is Jensen's inequality."""
    logits, labels = draw(5)
    nll = [row["nll"] for row in ensemble(logits, labels)]
    assert nll == sorted(nll, reverse=True)
    first, *others = ensemble(logits[:1] * 3, labels)
    assert all(row[name] == pytest.approx(first[name]) for row in others for name in ENSEMBLE_METRICS)


def test_a_run_that_is_sure_of_another_class_gives_no_infinite_nll():
    logits = [np.array([[0.0, 2000.0]]), np.array([[0.0, 3000.0]])]
    assert [row["nll"] for row in ensemble(logits, np.array([0]))] == pytest.approx([2500, 2000 + log(2)])


def test_of_many_subsets_some_are_drawn_always_the_same():
    assert choose_subsets(5, 2) == list(combinations(range(5), 2))
    assert comb(8, 4) == MOST_SUBSETS == len(choose_subsets(8, 4))
    chosen = choose_subsets(20, 10)
    assert chosen == choose_subsets(20, 10)
    assert len(set(chosen)) == MOST_SUBSETS
    assert all(len(set(subset)) == 10 and set(subset) <= set(range(20)) for subset in chosen)
    assert {run for subset in chosen for run in subset} == set(range(20))
    assert [row["subsets"] for row in ensemble(*draw(9, 20))] == [9, 36, 70, 70, 70, 70, 36, 9, 1]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Three seeds of `none` and Mixup."""
    results = tmp_path_factory.mktemp("recorded")
    assert app.run([*TINY, "regularizer=none,mixup", "seed=0,1,2", f"results_dir={results}"]) == 0
    return results


@pytest.fixture
def results(recorded, tmp_path):
    shutil.copytree(recorded, tmp_path / "results")
    return tmp_path / "results"


def make(results):
    """The runs and the rows of ensemble.csv."""
    runs = tables.write_tables(results, "adhoc")
    write_logit_tables(Experiment.load(results, "adhoc"))
    return runs, tables.read_csv(results / "adhoc" / "ensemble.csv")


def test_one_member_is_the_mean_of_the_runs_and_all_are_the_arms_model(results):
    runs, rows = make(results)
    assert list(rows[0]) == ENSEMBLE_COLUMNS
    assert [row["members"] for row in rows] == ["1", "2", "3"] * 2
    for arm_id in {row["arm_id"] for row in rows}:
        one, _, three = (row for row in rows if row["arm_id"] == arm_id)
        own = [run for run in runs if run["arm_id"] == arm_id]
        assert all(one[word] == own[0][word] for word in ("dataset", "model", "regularizer", "optimizer", "settings"))
        for name in ENSEMBLE_METRICS:
            assert float(one[name]) == pytest.approx(np.mean([float(run[f"test_{name}"]) for run in own]), abs=1e-12)
        arrays = [read_logits(results / "runs" / run["run_id"]) for run in own]
        theirs = restate([each["test_logits"] for each in arrays], arrays[0]["test_labels"], 3)
        assert [float(three[name]) for name in ENSEMBLE_METRICS] == pytest.approx(theirs, abs=1e-9)


def test_an_arm_with_a_run_whose_logits_are_gone_or_of_other_images_has_no_row(results):
    runs, rows = make(results)
    (results / "adhoc" / "ensemble.csv").unlink()
    path = results / "runs" / runs[0]["run_id"] / "logits.npz"
    path.unlink()
    assert make(results)[1] == [row for row in rows if row["arm_id"] != runs[0]["arm_id"]]
    shutil.rmtree(results / "runs")
    (results / "adhoc" / "ensemble.csv").unlink()
    make(results)
    assert not (results / "adhoc" / "ensemble.csv").exists()


def test_runs_of_other_test_images_are_not_averaged(results, monkeypatch):
    runs, rows = make(results)
    (results / "adhoc" / "ensemble.csv").unlink()

    def read(folder):
        arrays = read_logits(folder)
        return arrays | {"test_labels": arrays["test_labels"][::-1]} if folder.name == runs[0]["run_id"] else arrays

    monkeypatch.setattr("bench.record.logit_tables.read_logits", read)
    assert make(results)[1] == [row for row in rows if row["arm_id"] != runs[0]["arm_id"]]


def test_rows_are_kept_where_logits_are_gone_and_are_named_as_the_runs_are(results):
    """What the column `settings` must tell depends on the arms that have come since."""
    _, rows = make(results)
    assert {row["settings"] for row in rows} == {""}
    app.run([*TINY, "regularizer=mixup", "regularizer.mixup.alpha=0.7", "seed=0", f"results_dir={results}"])
    for folder in (results / "runs").iterdir():
        (folder / "logits.npz").unlink()
    _, again = make(results)
    assert {row["settings"] for row in again if row["regularizer"] == "mixup"} != {""}
    assert [row | {"settings": ""} for row in again] == rows


def test_the_page_has_the_ensembles_and_what_they_gain(results):
    _, rows = make(results)
    write_page(Experiment.load(results, "adhoc"), [])
    page = (results / "adhoc" / "report.html").read_text()
    shown = [row for row in Tables(page).found["Ensembles"] if row]
    assert sorted(row["regularizer"] for row in shown) == ["mixup", "none"]
    for row in shown:
        one, _, three = (each for each in rows if each["regularizer"] == row["regularizer"])
        assert row["members"] == "3"
        for title, name, factor, better in (("accuracy %", "accuracy", 100, 1), ("NLL", "nll", 1, -1)):
            single, whole = factor * float(one[name]), factor * float(three[name])
            assert shows(row[f"{title}, single"], single)
            assert shows(row[f"{title}, ensemble"], whole)
            assert shows(row[f"{title}, gain"], better * (whole - single))
    (results / "adhoc" / "ensemble.csv").unlink()
    write_page(Experiment.load(results, "adhoc"), [])
    assert "Ensembles" not in (results / "adhoc" / "report.html").read_text()


def test_one_seed_has_a_row_and_no_ensemble_on_the_page(results):
    runs, _ = make(results)
    single = replace(Experiment.load(results, "adhoc"), rows=[run for run in runs if run["seed"] == "0"])
    write_logit_tables(single)
    assert [row["members"] for row in tables.read_csv(results / "adhoc" / "ensemble.csv")] == ["1", "1"]
    write_page(single, [])
    assert "Ensembles" not in (results / "adhoc" / "report.html").read_text()


def test_a_damaged_table_is_named(results, capsys):
    make(results)
    path = results / "adhoc" / "ensemble.csv"
    header, first, *others = path.read_text().splitlines()
    assert ",1,3," in first
    for broken in (first.replace(",1,3,", ",one,3,"), f"{first},1"):
        path.write_text("\n".join([header, broken, *others]) + "\n")
        with pytest.raises(SystemExit) as stop:
            main(["report", "adhoc", "--results-dir", str(results)])
        assert stop.value.code == 2
        assert "ensemble.csv is damaged" in capsys.readouterr().err


def test_merged_results_have_the_same_ensembles(results, tmp_path):
    _, rows = make(results)
    with pytest.raises(SystemExit) as stop:
        main(["merge", str(results), "--results-dir", str(tmp_path / "ours")])
    assert stop.value.code == 0
    assert make(tmp_path / "ours")[1] == rows


def test_the_figure_has_a_line_per_arm_from_single_runs_to_all_of_them():
    figure = draw_figure(pick("none", "mixup"), "ensemble")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["sgd", "adam", "", ""]
    for axes in figure.axes:
        assert [list(line.get_xdata()) for line in axes.lines] == [[1, 2, 3]] * 2
    rows = {(row["regularizer"], row["optimizer"]): row for row in make_ensemble(pick("none", "mixup"))}
    ends = [line.get_ydata()[-1] for line in figure.axes[2].lines]
    assert ends == pytest.approx([float(rows[name, "sgd"]["nll"]) for name in ("none", "mixup")])
    assert_readable(figure)


def test_no_figure_of_single_runs_or_of_more_lines_than_can_be_told_apart():
    runs = [run for i in range(13) for run in clone(pick("sam"), settings=f"regularizer.sam.rho=0.{i}")]
    assert "ensemble" not in dict(draw_figures(make_tables(runs)))
    single = [row for row in make_ensemble(pick("none")) if row["members"] == "1"]
    assert "ensemble" not in dict(draw_figures(FigureTables(pick("none"), ensemble=single)))


@pytest.fixture(scope="module")
def page_of_digits(page, tmp_path_factory):
    folder = shutil.copytree(page.parent, tmp_path_factory.mktemp("with ensembles") / "digits")
    runs = tables.read_csv(folder / "runs.csv")
    (folder / "ensemble.csv").write_text(to_csv(ENSEMBLE_COLUMNS, make_ensemble(runs)))
    write_evidence(Experiment.load(folder.parent, "digits"))
    return folder / "report.html"


@needs_browser
@pytest.mark.parametrize("width", [400, 900, 1280, 1800])
def test_table_and_figure_fit_all_windows(width, page_of_digits, browser):
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto(page_of_digits.as_uri())
    assert tab.locator("h2", has_text="Ensembles").count() == tab.locator("figure#ensemble").count() == 1
    assert tab.evaluate(OVERFLOWS) == tab.evaluate(OVERLAPS) == tab.evaluate(TEXT_OVERLAPS) == []
    tab.close()
