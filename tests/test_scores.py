import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY

import bench
from bench import cli
from bench.cli import run as app
from bench.errors import UsageError
from bench.evidence.resample import RESAMPLES, interval, resample
from bench.measure import SCORES, metric
from bench.measure.temperature import fit_temperature
from bench.record import tables
from bench.record.columns import RUN_COLUMNS
from bench.record.experiment import Experiment
from bench.record.logit_tables import write_logit_tables
from bench.record.logits import read_logits
from bench.report.page import write_page


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


def runs(results):
    return tables.write_tables(results, "adhoc")


def test_a_runs_columns_are_what_its_logits_say(results):
    row = runs(results)[0]
    arrays = read_logits(results / "runs" / row["run_id"])
    logits, labels = arrays["test_logits"], arrays["test_labels"]
    assert float(row["test_aurc"]) == metric.aurc(logits, labels)
    assert float(row["test_ece_equal_mass"]) == metric.ece_equal_mass(logits, labels)
    assert float(row["accuracy_gap"]) == float(row["train_accuracy"]) - float(row["test_accuracy"])
    assert float(row["nll_gap"]) == float(row["test_nll"]) - float(row["train_nll"])
    temperature, at_bound = fit_temperature(arrays["val_logits"], arrays["val_labels"])
    assert (float(row["temperature"]), row["temperature_at_bound"]) == (temperature, str(at_bound))
    assert float(row["test_nll_scaled"]) == metric.nll(logits.astype(np.float64) / temperature, labels)
    assert all(row[column] for column in SCORES)


def make_old(results):
    """Has the records be those of a regbench that knew nothing of these columns."""
    for path in results.glob("runs/*/result.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in record.items() if key not in (*SCORES, "sha256")}))


def test_older_records_get_them_from_their_logits_once(results, monkeypatch):
    before = runs(results)
    make_old(results)
    assert runs(results) == before
    assert len(list(results.glob("runs/*/metrics.json"))) == len(before)
    monkeypatch.setattr("bench.measure.scores.score_run", lambda *_: pytest.fail("made again"))
    assert runs(results) == before


def test_what_was_made_of_a_record_that_was_replaced_is_made_anew(results):
    before = runs(results)
    make_old(results)
    runs(results)
    path = results / "runs" / before[0]["run_id"] / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"made_of": [1.0, 2.0], "test_aurc": 0.5}))
    assert runs(results) == before
    path.write_text("{")
    assert runs(results) == before


def test_an_older_record_without_logits_has_empty_cells(results):
    make_old(results)
    for path in results.glob("runs/*/logits.npz"):
        path.write_bytes(b"")
    assert {row[column] for row in runs(results) for column in SCORES} == {""}


def test_an_older_record_whose_logits_do_not_fit_stops_nothing(results):
    make_old(results)
    for path in results.glob("runs/*/logits.npz"):
        np.savez(path, test_logits=np.zeros((2, 3)), test_labels=np.zeros(5, int))
    assert {row[column] for row in runs(results) for column in SCORES} == {""}


def test_without_a_validation_split_there_is_no_temperature(tmp_path):
    app.run([*TINY, "dataset.val_fraction=0", f"results_dir={tmp_path}"])
    (row,) = runs(tmp_path)
    assert [row[column] for column in SCORES[-4:]] == [""] * 4
    assert row["test_aurc"]


def test_resampling_keeps_means_and_gives_the_binomial_spread():
    random = np.random.default_rng(3)
    arrays = {"test_logits": random.standard_normal((800, 4)), "test_labels": random.integers(0, 4, 800)}
    drawn = resample(arrays)
    accuracy = metric.accuracy(arrays["test_logits"], arrays["test_labels"])
    error = np.sqrt(accuracy * (1 - accuracy) / 800)
    assert drawn["test_accuracy"].shape == (RESAMPLES,)
    assert drawn["test_accuracy"].mean() == pytest.approx(accuracy, abs=3 * error / np.sqrt(RESAMPLES))
    assert drawn["test_accuracy"].std() == pytest.approx(error, rel=0.1)
    low, high, _ = interval(drawn["test_accuracy"], 0.0, "test_accuracy").values()
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_a_resampled_metric_is_that_of_the_resampled_examples():
    random = np.random.default_rng(4)
    logits, labels = random.standard_normal((300, 3)), random.integers(0, 3, 300)
    drawn = resample({"test_logits": logits, "test_labels": labels})
    first = np.random.default_rng(0).integers(300, size=300)
    for column, function in (("ece", metric.ece), ("nll", metric.nll), ("brier", metric.brier)):
        assert drawn[f"test_{column}"][0] == pytest.approx(function(logits[first], labels[first]), rel=1e-5)


def test_logits_that_are_not_the_records_are_none(results):
    one, other = (results / "runs" / row["run_id"] for row in runs(results)[:2])
    assert read_logits(one) is not None
    shutil.copyfile(other / "logits.npz", one / "logits.npz")
    assert read_logits(one) is None


@pytest.mark.parametrize("known", [True, False], ids=["digest", "older record"])
def test_damaged_logits_are_none_whatever_numpy_makes_of_them(known, results):
    folder = results / "runs" / runs(results)[0]["run_id"]
    if not known:
        record = json.loads((folder / "result.json").read_text())
        del record["sha256"]
        (folder / "result.json").write_text(json.dumps(record))
    whole = (folder / "logits.npz").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        (folder / "logits.npz").write_bytes(damaged)
        assert read_logits(folder) is None or not known
    for shape, dtype in (((3,), "float32"), ((3, 4), "float64"), ((4, 4), "float32")):
        np.savez(
            folder / "logits.npz",
            **{f"{split}_logits": np.zeros(shape, dtype) for split in ("val", "test")},
            **{f"{split}_labels": np.zeros(3, "int64") for split in ("val", "test")},
        )
        assert read_logits(folder) is None


@pytest.mark.parametrize("lost", ["gone", "damaged"])
def test_logits_whose_record_is_lost_are_nobodys(lost, results):
    """A merge that was cut had taken the record away: the other run's logits were joined to our row of runs.csv."""
    folder = next((results / "runs").iterdir())
    assert read_logits(folder) is not None
    if lost == "gone":
        (folder / "result.json").unlink()
    else:
        (folder / "result.json").write_text("{")
    assert read_logits(folder) is None


def test_damaged_logits_that_keep_an_arm_out_are_said_by_report(results, capsys):
    identifier = runs(results)[0]["run_id"]
    (results / "runs" / identifier / "logits.npz").write_bytes(b"damaged")
    for said in (True, False):
        with pytest.raises(SystemExit):
            cli.main(["report", "adhoc", "--results-dir", str(results)])
        assert (f"the logits of run {identifier} are damaged" in capsys.readouterr().err) == said
        shutil.rmtree(results / "runs" / identifier, ignore_errors=True)  # gone, as in a fresh clone, is no damage


def logit_tables(results):
    write_logit_tables(Experiment.load(results, "adhoc"))
    return [tables.read_csv(results / "adhoc" / name) for name in ("reliability.csv", "test_set.csv")]


def test_the_bins_of_an_arm_pool_its_seeds_and_give_their_ece(results):
    reliability, _ = logit_tables(results)
    rows = [row for row in runs(results) if row["regularizer"] == "mixup"]
    arrays = [read_logits(results / "runs" / row["run_id"]) for row in rows]
    pooled = [np.concatenate([each[key] for each in arrays]) for key in ("test_logits", "test_labels")]
    bins = [r for r in reliability if r["arm_id"] == rows[0]["arm_id"] and r["scaled"] == "0" and r["count"] != "0"]
    count = np.array([int(row["count"]) for row in bins])
    gaps = np.array([float(row["accuracy"]) - float(row["confidence"]) for row in bins])
    assert count.sum() == 120
    assert (count * np.abs(gaps)).sum() / 120 == pytest.approx(metric.ece(*pooled))


def test_the_test_sets_share_of_uncertainty_stands_beside_that_of_seeds(results):
    _, test_set = logit_tables(results)
    compared = {row["metric"]: row for row in tables.read_csv(results / "adhoc" / "comparison.csv")}
    assert [row["metric"] for row in test_set] == ["test_accuracy", "test_nll", "test_ece", "test_brier"]
    for row in test_set:
        assert float(row["difference"]) == pytest.approx(float(compared[row["metric"]]["difference"]))
        assert float(row["low"]) < float(row["high"])
        assert (row["seeds"], row["examples"]) == ("3", "40")


def test_tables_of_logits_are_kept_while_their_runs_are_and_where_logits_are_gone(results, monkeypatch):
    before = logit_tables(results)
    with monkeypatch.context() as patch:
        patch.setattr("bench.record.logit_tables.read_logits", lambda _: pytest.fail("read again"))
        assert logit_tables(results) == before
    shutil.rmtree(results / "runs")
    assert logit_tables(results) == before


def test_rows_of_runs_that_changed_go_where_no_new_ones_can_be_made(results):
    logit_tables(results)
    folder = results / "adhoc"
    rows = tables.read_csv(folder / "runs.csv")
    shutil.rmtree(results / "runs")
    (folder / "asked.txt").unlink()
    kept = [row for row in rows if row["seed"] != "2"]
    (folder / "runs.csv").write_text(tables.to_csv(RUN_COLUMNS, kept))
    assert logit_tables(results) == [[], []]


def test_a_comparison_that_has_got_new_arms_meanwhile_harms_nothing(results):
    old = [row for row in runs(results) if row["regularizer"] == "none"]
    narrowed = replace(Experiment.load(results, "adhoc"), rows=old)
    write_logit_tables(narrowed)
    assert tables.read_csv(results / "adhoc" / "test_set.csv") == []
    write_page(narrowed, [])


def test_another_run_makes_its_arms_tables_anew(results):
    reliability, test_set = logit_tables(results)
    app.run([*TINY, "regularizer=mixup", "seed=3", f"results_dir={results}"])
    new_reliability, new_test_set = logit_tables(results)
    assert new_test_set == test_set  # seed 3 has no partner
    changed = {row["arm_id"] for row in new_reliability if row not in reliability}
    assert len(changed) == 1


def test_results_are_a_frame_to_go_on_with(results, monkeypatch):
    frame = bench.results("adhoc", results)
    rows = runs(results)
    assert list(frame.columns) == RUN_COLUMNS
    assert frame.groupby("regularizer").test_nll.mean()["mixup"] == pytest.approx(
        np.mean([float(row["test_nll"]) for row in rows if row["regularizer"] == "mixup"])
    )
    assert list(frame.run_id) == [row["run_id"] for row in rows]
    assert frame.seed.dtype == int
    monkeypatch.setenv("REGBENCH_RESULTS", str(results))
    assert bench.results("adhoc").equals(frame)
    with pytest.raises(UsageError, match="there is no"):
        bench.results("nope", results)
