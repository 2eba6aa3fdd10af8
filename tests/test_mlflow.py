"""MLflow holds a run's settings, history and numbers once, whatever happens to the run, and harms none."""

import csv
import errno
import json
import logging
import os
import shutil
import socket
import sqlite3
import threading
import time
from collections import defaultdict
from contextlib import closing, suppress
from pathlib import Path

import pytest
from conftest import TINY
from mlflow import MlflowClient
from test_checkpoint import content_of, interrupt_after, train_interrupted

from bench.cli import run as app
from bench.errors import LockLost
from bench.record.folder import CHECKPOINT, HISTORY_COLUMNS, RunFolder
from bench.training.run import record_death, train_run
from bench.training.tracker import mlflow as tracker

ASKED = "train.tracker=mlflow"
VAL = "dataset.val_fraction=0.2"
OF_EPOCHS = set(HISTORY_COLUMNS) - {"run_id", "epoch"}


@pytest.fixture(scope="module")
def _empty_store(tmp_path_factory):
    """A store without runs: it takes seconds to make one."""
    results = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch, tracker._quiet():
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracker._connect(results)
    return results / "mlflow.db"


@pytest.fixture
def results(_empty_store, tmp_path, monkeypatch):
    """A folder of results with a store in it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "results" / "runs").mkdir(parents=True)
    shutil.copy(_empty_store, tmp_path / "results")
    return tmp_path / "results"


def query(results, text):
    with closing(sqlite3.connect(results / "mlflow.db")) as store:
        return store.execute(text).fetchall()


def read_runs(results):
    """MLflow's runs as they stand in its tables, the oldest first: experiment, status, tags, settings, numbers."""
    found = query(
        results,
        "SELECT run_uuid, experiments.name, status, runs.lifecycle_stage FROM runs JOIN experiments USING "
        "(experiment_id) ORDER BY start_time",
    )
    runs = []
    for identifier, experiment, status, stage in found:
        metrics = defaultdict(list)
        where = f"WHERE run_uuid = '{identifier}'"
        for key, step, value in query(results, f"SELECT key, step, value FROM metrics {where} ORDER BY step"):
            metrics[key].append((step, value))
        tags, params = (dict(query(results, f"SELECT key, value FROM {table} {where}")) for table in ("tags", "params"))
        runs.append({"id": identifier, "exp": experiment, "status": status, "stage": stage, "tags": tags})
        runs[-1] |= {"params": params, "metrics": dict(metrics)}
    return runs


def read_history(folder):
    """history.csv in the same form; an empty cell is none."""
    columns = defaultdict(list)
    with (folder / "history.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for key in row.keys() & OF_EPOCHS:
                if row[key]:
                    columns[key].append((int(row["epoch"]), float(row[key])))
    return dict(columns)


def of_epochs(run):
    return {key: points for key, points in run["metrics"].items() if key in OF_EPOCHS}


def test_it_holds_what_the_record_holds_and_a_run_on_record_once(results):
    command = [*TINY, ASKED, VAL, "seed=0,1", "exp=mine", f"results_dir={results}"]
    app.run(command)
    app.run(command)
    runs = read_runs(results)
    assert [(run["exp"], run["status"], run["tags"]["seed"]) for run in runs] == [
        ("mine", "FINISHED", "0"),
        ("mine", "FINISHED", "1"),
    ]
    for run in runs:
        folder = results / "runs" / run["tags"]["run_id"]
        record = json.loads((folder / "result.json").read_text())
        assert run["tags"]["arm_id"] == record["arm_id"]
        assert run["tags"]["arm"] == "synthetic mlp none sgd"
        assert run["tags"]["status"] == "done"
        assert run["params"] == {k: "null" if v is None else str(v) for k, v in record["config"].items()}
        assert of_epochs(run) == read_history(folder)
        assert [epoch for epoch, _ in run["metrics"]["val_nll"]] == [1, 2]
        numbers = {key: points for key, points in run["metrics"].items() if key not in OF_EPOCHS}
        assert numbers == {key: [(2, record[key])] for key in numbers}
        assert {"test_accuracy", "test_nll", "test_ece", "train_seconds", "gradient_evaluations"} <= set(numbers)
    assert runs[0]["tags"]["arm_id"] == runs[1]["tags"]["arm_id"]


def test_a_run_that_goes_on_goes_on_in_mlflow_and_has_each_epoch_once(tiny, results):
    """Interrupted in the first epoch of 4 steps, in the third and during the last evaluation."""
    run, folder = tiny(ASKED, VAL, "train.epochs=3"), results / "runs" / "a"
    interrupt_after(2, run, folder)
    assert [(run["status"], run["metrics"]) for run in read_runs(results)] == [("KILLED", {})]
    interrupt_after(8, run, folder)
    train_interrupted(run, folder, 3)
    (logged,) = read_runs(results)
    assert logged["status"] == "FINISHED"
    assert of_epochs(logged) == read_history(folder)
    assert [epoch for epoch, _ in logged["metrics"]["lr"]] == [1, 2, 3]


def test_epochs_that_a_killed_process_had_after_its_last_checkpoint_are_there_once(tiny, results):
    run, folder = tiny(ASKED, "train.epochs=3"), results / "runs" / "a"
    interrupt_after(2, run, folder)
    early = (folder / CHECKPOINT).read_bytes()
    interrupt_after(10, run, folder)
    (folder / CHECKPOINT).write_bytes(early)
    assert train_run(run, folder)["resumed"]
    (logged,) = read_runs(results)
    assert [epoch for epoch, _ in logged["metrics"]["lr"]] == [1, 2, 3]


def test_of_a_run_that_is_trained_anew_the_earlier_one_is_in_the_trash(tiny, results):
    folder = results / "runs" / "a"
    train_run(tiny(ASKED), folder)
    train_run(tiny(ASKED), folder, exp="other")
    old, new = read_runs(results)
    assert (old["stage"], new["stage"]) == ("deleted", "active")
    assert (old["exp"], new["exp"]) == ("adhoc", "other")
    assert of_epochs(new) == read_history(folder)
    (folder / "result.json").unlink()
    interrupt_after(2, tiny(), folder)  # anew, and with no tracker: what is in MLflow is no longer this run's
    train_run(tiny(ASKED), folder)
    newest = read_runs(results)[2]
    assert of_epochs(newest) == read_history(folder)
    assert read_runs(results)[1]["stage"] == "active"


def test_the_same_run_of_other_results_is_left_alone(tiny, results):
    train_run(tiny(ASKED), results / "runs" / "a")
    train_run(tiny(ASKED), results / "runs" / "b")
    assert [run["stage"] for run in read_runs(results)] == ["active", "active"]


def test_runs_that_failed_diverged_or_died_are_ended_as_such(tiny, results):
    def fail(*_):
        raise RuntimeError("of a user's own")

    folder = results / "runs" / "failed"
    assert train_run(tiny(ASKED), folder, fail)["status"] == "failed"
    assert train_run(tiny(ASKED, "optimizer.sgd.lr=1e30"), results / "runs" / "diverged")["status"] == "diverged"
    record_death(tiny(ASKED), RunFolder(folder), "its process died", 1, "adhoc")
    failed, diverged = read_runs(results)
    assert (failed["status"], failed["tags"]["status"]) == ("FAILED", "failed")
    assert (diverged["status"], diverged["tags"]["status"]) == ("FAILED", "diverged")
    assert [epoch for epoch, _ in failed["metrics"]["lr"]] == [1]
    assert set(failed["metrics"]) <= OF_EPOCHS
    assert of_epochs(diverged) == read_history(results / "runs" / "diverged")


def test_who_lost_the_lock_writes_nothing(tiny, results):
    folder, calls = results / "runs" / "a", []

    def lost():
        calls.append(1)
        if len(calls) == 3:  # at the second epoch: before, at the beginning and at the first
            raise LockLost

    with pytest.raises(LockLost):
        train_run(tiny(ASKED), folder, may_write=lost)
    (logged,) = read_runs(results)
    assert (logged["status"], [epoch for epoch, _ in logged["metrics"]["lr"]]) == ("RUNNING", [1])


def test_numbers_and_records_know_nothing_of_it(tiny, results, tmp_path):
    train_run(tiny(VAL), tmp_path / "plain")
    train_run(tiny(VAL, ASKED), results / "runs" / "tracked")
    assert content_of(results / "runs" / "tracked") == content_of(tmp_path / "plain")


def test_it_is_silent_reaches_no_network_and_leaves_the_process_as_it_was(tiny, results, capfd, monkeypatch):
    def refuse(self, address):
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    environment, disabled = dict(os.environ), logging.root.manager.disable
    train_run(tiny(ASKED), results / "runs" / "a")
    assert read_runs(results)[0]["status"] == "FINISHED"
    assert capfd.readouterr() == ("", "")
    assert (dict(os.environ), logging.root.manager.disable) == (environment, disabled)
    assert {path.name for path in results.iterdir()} == {"mlflow.db", "runs"}
    assert not Path("mlruns").exists()


def test_what_could_not_be_written_when_it_was_due_is_written_at_the_end(tiny, results, monkeypatch):
    log_batch, failures = MlflowClient.log_batch, [OSError(errno.ENOSPC, "No space left on device")]

    def fail_once(self, run, metrics=(), **others):
        if metrics and failures:
            raise failures.pop()
        return log_batch(self, run, metrics, **others)

    monkeypatch.setattr(MlflowClient, "log_batch", fail_once)
    folder = results / "runs" / "a"
    assert train_run(tiny(ASKED), folder)["status"] == "done"
    assert (folder / "log.txt").read_text().count("no further curves could be written") == 1
    (logged,) = read_runs(results)
    assert of_epochs(logged) == read_history(folder)


def test_a_run_whose_note_is_damaged_is_made_anew(tiny, results):
    folder = results / "runs" / "a"
    folder.mkdir()
    (folder / "mlflow.txt").write_bytes(b"\xff\x00\xfe")
    assert train_run(tiny(ASKED), folder)["status"] == "done"
    assert [of_epochs(run) for run in read_runs(results)] == [read_history(folder)]
    (folder / "mlflow.txt").write_bytes(b"\xff\x00\xfe")
    record_death(tiny(ASKED), RunFolder(folder), "its process died", 1, "adhoc")
    assert [run["status"] for run in read_runs(results)] == ["FINISHED", "FAILED"]


@pytest.mark.parametrize("asked", [ASKED, "train.tracker=none"])
def test_a_training_outlives_a_note_that_cannot_be_read(asked, tiny, results):
    folder = results / "runs" / "a"
    (folder / "mlflow.txt").mkdir(parents=True)
    assert train_run(tiny(asked), folder)["status"] == "done"
    assert "no further curves" in (folder / "log.txt").read_text()
    record_death(tiny(asked), RunFolder(folder), "its process died", 1, "adhoc")


@pytest.fixture
def silent_server():
    """A server that takes connections and answers none: its address, and the connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = []

        def take():
            with suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", taken
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in taken:
            connection.close()


@pytest.mark.parametrize("answers", [False, None], ids=["silent", "refused"])
def test_a_training_outlives_a_server_that_does_not_answer(answers, silent_server, tiny, results, monkeypatch):
    address, taken = silent_server
    if answers is None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@{address}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    train_run(tiny(), results / "runs" / "plain")
    train_run(tiny(ASKED, "train.epochs=2"), results / "runs" / "a")
    assert content_of(results / "runs" / "a") == content_of(results / "runs" / "plain")
    log = (results / "runs" / "a" / "log.txt").read_text()
    assert log.count("no further curves could be written") == 1
    assert len(log.splitlines()) == 1 + len((results / "runs" / "plain" / "log.txt").read_text().splitlines())
    assert "secret" not in log
    assert len(taken) == (2 if answers is False else 0)  # at the beginning, and at the end once more
    assert read_runs(results) == []


@pytest.mark.parametrize("damage", ["no store", "no file", "no address"])
def test_a_store_that_cannot_be_opened_harms_nothing(damage, tiny, results, monkeypatch):
    """Nor is it waited for: MLflow would sleep between one try and the next."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"sleeps {seconds} s"))
    (results / "mlflow.db").unlink()
    if damage == "no store":
        (results / "mlflow.db").write_bytes(b"something else")
    elif damage == "no file":
        (results / "mlflow.db").mkdir()
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://at/all")
    assert train_run(tiny(ASKED), results / "runs" / "a")["status"] == "done"
    assert (results / "runs" / "a" / "log.txt").read_text().count("no further curves could be written") == 1
