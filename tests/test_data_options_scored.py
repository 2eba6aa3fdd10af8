"""Runs on noisy labels and a long tail: planned, trained, scored, on record and shown."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY

import bench
from bench import cli
from bench.cli import run as app
from bench.dataset import load_source, make_splits
from bench.measure import SCORES
from bench.measure.metric import minority_accuracy
from bench.record import tables
from bench.record.columns import RUN_COLUMNS
from bench.record.experiment import Experiment
from bench.record.frame import read_frame
from bench.report.layout import describe_protocol
from bench.report.page import write_page

CPU = torch.device("cpu")
BOTH = ("dataset.label_noise=0.4", "dataset.imbalance=0.25")


def read_runs(results):
    return read_frame(results / "adhoc" / "runs.csv")


def test_a_run_with_both_is_planned_trained_scored_and_found_again(tmp_path, capsys):
    typed = [*TINY, *BOTH, "regularizer=none,mixup", "keep_weights=true", f"results_dir={tmp_path}"]
    assert app.plan([*typed, "dataset.label_noise=0,0.4"]) == 0
    assert "synthetic mlp none sgd label_noise=0.4 seed 0" in capsys.readouterr().out.replace("imbalance=0.25 ", "")
    assert app.run(typed) == 0
    assert "36 training images, batches of 16, imbalance 0.25, label noise 0.4" in " ".join(
        capsys.readouterr().out.split()
    )
    assert app.run(typed) == 0
    assert "2 runs, 2 on record, 0 to train" in capsys.readouterr().out

    (run, _) = app.compose(typed).runs
    data = make_splits(run.dataset, load_source(run.dataset), CPU)
    for _, row in read_runs(tmp_path).iterrows():
        record = json.loads((tmp_path / "runs" / row["run_id"] / "result.json").read_text())
        assert record["class_counts"] == np.bincount(data.train.true_labels).tolist() == [16, 10, 6, 4]
        assert record["wrong_labels"] == round(0.4 * 36)
        model = bench.load_model(row["run_id"], tmp_path)
        predicted = model(data.train.images).argmax(1)
        assert row["train_accuracy"] == pytest.approx((predicted == data.train.labels).double().mean().item())
        assert row["train_clean_accuracy"] == pytest.approx(
            (predicted == data.train.true_labels).double().mean().item()
        )
        rarest = data.test.labels == 3
        right = model(data.test.images[rarest]).argmax(1) == 3
        assert row["test_minority_accuracy"] == pytest.approx(right.double().mean().item())


def test_runs_without_the_options_have_no_such_number_and_tables_without_such_runs_no_such_column(tmp_path):
    asked = [*TINY, "seed=0,1,2", "regularizer=none,sam", f"results_dir={tmp_path}"]
    assert app.run(asked) == 0
    assert [*read_runs(tmp_path).columns] == RUN_COLUMNS
    assert app.run([*asked, "dataset.label_noise=0.3"]) == 0
    runs, summary, compared = (read_frame(tmp_path / "adhoc" / f"{n}.csv") for n in ("runs", "summary", "comparison"))
    assert [*runs.columns] == [*RUN_COLUMNS, "train_clean_accuracy"]
    noisy = runs["settings"].str.contains("label_noise=0.3")
    assert (runs["train_clean_accuracy"].notna() == noisy).all()
    assert noisy.sum() == summary["train_clean_accuracy_mean"].notna().sum() * 3 == 6
    assert (compared["metric"] == "train_clean_accuracy").sum() == 1
    assert app.run(asked) == 0  # rows that are read again keep their empty cells
    assert (read_runs(tmp_path)["train_clean_accuracy"].notna() == noisy).all()


def test_validation_is_scored_on_the_labels_that_it_has(tmp_path):
    switch = "dataset.noisy_validation=false,true"
    assert app.run([*TINY, "dataset.label_noise=0.5", switch, f"results_dir={tmp_path}"]) == 0
    labels = {}
    for _, row in read_runs(tmp_path).iterrows():
        with np.load(tmp_path / "runs" / row["run_id"] / "logits.npz") as arrays:
            hits = arrays["val_logits"].argmax(1) == arrays["val_labels"]
            assert row["val_accuracy"] == pytest.approx(hits.mean())
            labels["True" in row["settings"]] = arrays["val_labels"]
            assert np.bincount(arrays["test_labels"]).tolist() == [10] * 4
    assert (labels[False] != labels[True]).sum() == 8


def test_an_older_record_gets_its_minority_accuracy_from_its_logits(tmp_path):
    assert app.run([*TINY, *BOTH, f"results_dir={tmp_path}"]) == 0
    before = tables.write_tables(tmp_path, "adhoc")
    (path,) = tmp_path.glob("runs/*/result.json")
    lost = {*SCORES, "test_minority_accuracy", "sha256"}
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key not in lost}))
    assert tables.write_tables(tmp_path, "adhoc") == before
    assert before[0]["test_minority_accuracy"]


def test_the_report_shows_the_columns_that_there_are(tmp_path, capsys):
    assert app.run([*TINY, *BOTH, "seed=0,1", f"results_dir={tmp_path}"]) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        cli.main(["report", "adhoc", "--results-dir", str(tmp_path), "--metric", "minority_accuracy"])
    assert exit_.value.code == 0
    assert "minority" in capsys.readouterr().out
    page = (tmp_path / "adhoc" / "report.html").read_text()
    assert "minority accuracy %" in page
    assert "train accuracy, true labels %" in page
    rows = tables.write_tables(tmp_path, "adhoc")
    bare = [{key: cell for key, cell in row.items() if key in RUN_COLUMNS} for row in rows]
    write_page(replace(Experiment.load(tmp_path, "adhoc"), rows=bare), [])
    assert "minority accuracy %" not in (tmp_path / "adhoc" / "report.html").read_text()


def test_the_protocols_line_names_options_that_an_arm_has_used():
    row = {"arm_id": "a", "seed": "0", "epochs": "2", "train_size": "9", "batch_size": "3"}
    settings = {"a": {}, "b": {"dataset.label_noise": 0.4}}
    assert "noise" not in describe_protocol([row], settings)
    assert describe_protocol([row, row | {"arm_id": "b"}], settings).endswith("batches of 3, label noise 0 or 0.4")


def test_minority_accuracy_is_of_the_rarest_third():
    logits, labels = np.eye(6)[[0, 1, 2, 3, 4, 0]], np.arange(6)
    assert minority_accuracy(logits, labels, [9, 8, 7, 6, 5, 4]) == 0.5  # classes 4 and 5, of which 4 is hit
    assert minority_accuracy(logits, labels, [1, 8, 8, 8, 8, 8]) == 0.5  # 0 and, of equally rare ones, the last
    assert minority_accuracy(logits, labels, [1, 0, 8, 8, 8, 8]) == 1
    assert minority_accuracy(logits[:2], labels[:2], [9, 8, 7, 6, 5, 4]) is None
    assert minority_accuracy(np.eye(2), np.array([0, 1]), [5, 3]) == 1
