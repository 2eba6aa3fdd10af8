"""TensorBoard's curves are history.csv's, whatever happens to a run, and the numbers know nothing of them."""

import csv
import errno
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_checkpoint import content_of, interrupt_after, train_interrupted
from test_settings import assert_refused
from torch.utils.tensorboard import SummaryWriter

from bench.cli import run as app
from bench.errors import LockLost, UsageError
from bench.record.folder import CURVES
from bench.training import run as run_module
from bench.training.run import train_run

ASKED = "train.tracker=tensorboard"
VAL = "dataset.val_fraction=0.2"


def read_curves(folder):
    """By tag, the epochs and values that are there: as they were written, single precision."""
    curves = EventAccumulator(str(folder / CURVES)).Reload()
    return {tag: [(event.step, event.value) for event in curves.Scalars(tag)] for tag in curves.Tags()["scalars"]}


def read_history(folder):
    """The same of history.csv; an empty cell is none."""
    columns = defaultdict(list)
    with (folder / "history.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for tag in row.keys() - {"run_id", "epoch"}:
                if row[tag]:
                    columns[tag].append((int(row["epoch"]), np.float32(row[tag])))
    return dict(columns)


@pytest.mark.parametrize("val", ["0.2", "0"])
def test_the_curves_are_what_history_holds(val, tiny, tmp_path):
    train_run(tiny(ASKED, f"dataset.val_fraction={val}"), tmp_path)
    curves = read_curves(tmp_path)
    assert curves == read_history(tmp_path)
    assert [epoch for epoch, _ in curves["train_loss"]] == [1, 2]
    assert curves.keys() - {"val_accuracy", "val_nll", "val_ece"} == {"train_loss", "lr", "seconds"}
    assert ("val_ece" in curves) == (val != "0")


def test_an_interrupted_run_has_each_epoch_once(tiny, tmp_path):
    """Interrupted in the first epoch of 4 steps, in the third and during the last evaluation."""
    run = tiny(ASKED, VAL, "train.epochs=3")
    interrupt_after(2, run, tmp_path)
    assert read_curves(tmp_path) == {}
    interrupt_after(8, run, tmp_path)
    assert [epoch for epoch, _ in read_curves(tmp_path)["lr"]] == [1, 2]
    train_interrupted(run, tmp_path, 3)
    assert read_curves(tmp_path) == read_history(tmp_path)
    assert [epoch for epoch, _ in read_curves(tmp_path)["lr"]] == [1, 2, 3]


def test_the_second_try_of_a_run_that_runs_out_of_memory_begins_anew(tiny, tmp_path, monkeypatch):
    left = [torch.OutOfMemoryError("CUDA out of memory")]

    def on_epoch(*_):
        if left:
            raise left.pop()

    assert train_run(tiny(ASKED), tmp_path, on_epoch)["status"] == "done"
    assert [epoch for epoch, _ in read_curves(tmp_path)["lr"]] == [1, 2]


@pytest.mark.parametrize("tracker", ["tensorboard", "none"])
def test_a_run_that_is_trained_again_keeps_nothing_of_the_earlier_one(tracker, tmp_path):
    app.run([*TINY, ASKED, f"results_dir={tmp_path}"])
    (folder,) = (tmp_path / "runs").iterdir()
    (old,) = (folder / CURVES).iterdir()
    app.run([*TINY, f"train.tracker={tracker}", "force=true", f"results_dir={tmp_path}"])
    left = list((folder / CURVES).iterdir())
    assert old not in left
    assert len(left) == (tracker == "tensorboard")
    assert not left or read_curves(folder) == read_history(folder)


def test_what_a_failed_or_diverged_run_has_reached_is_there(tiny, tmp_path):
    def fail(*_):
        raise RuntimeError("of a user's own")

    assert train_run(tiny(ASKED), tmp_path / "failed", fail)["status"] == "failed"
    assert [epoch for epoch, _ in read_curves(tmp_path / "failed")["lr"]] == [1]
    assert train_run(tiny(ASKED, "optimizer.sgd.lr=1e30"), tmp_path / "diverged")["status"] == "diverged"
    assert read_curves(tmp_path / "diverged") == read_history(tmp_path / "diverged")


@pytest.mark.parametrize("tracker", ["tensorboard", "none"])
def test_who_lost_the_lock_leaves_the_other_ones_curves_alone(tracker, tiny, tmp_path):
    train_run(tiny(ASKED), tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / CURVES).iterdir()}

    def lost():
        raise LockLost

    with pytest.raises(LockLost):
        train_run(tiny(f"train.tracker={tracker}"), tmp_path, may_write=lost)
    assert {path: path.read_bytes() for path in (tmp_path / CURVES).iterdir()} == before


def test_a_training_outlives_curves_that_cannot_be_written(tiny, tmp_path, monkeypatch):
    train_run(tiny(), tmp_path / "whole")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(SummaryWriter, "flush", lambda _: (_ for _ in ()).throw(full))
    train_run(tiny(ASKED), tmp_path / "full")
    assert (tmp_path / "full" / "log.txt").read_text().count("no further curves could be written") == 1
    assert content_of(tmp_path / "full") == content_of(tmp_path / "whole")


@pytest.mark.parametrize("tracker", ["tensorboard", "none"])
def test_a_training_outlives_old_curves_that_cannot_be_removed(tracker, tiny, tmp_path):
    train_run(tiny(), tmp_path / "whole")
    (tmp_path / "stuck" / CURVES / "events.out.tfevents.1").mkdir(parents=True)  # a folder is no file to remove
    assert train_run(tiny(f"train.tracker={tracker}"), tmp_path / "stuck")["status"] == "done"
    assert (tmp_path / "stuck" / "log.txt").read_text().count("no further curves could be written") == 1
    assert content_of(tmp_path / "stuck") == content_of(tmp_path / "whole")


def test_neither_numbers_nor_ids_depend_on_it(plan, tmp_path):
    (plain,), (tracked,) = plan(VAL), plan(VAL, ASKED)
    assert tracked.run_id == plain.run_id
    assert len(plan(VAL, "train.tracker=tensorboard,none,mlflow")) == 1
    for planned, name in ((plain, "plain"), (tracked, "tracked")):
        train_run(planned.run, tmp_path / name)
    assert content_of(tmp_path / "tracked") == content_of(tmp_path / "plain")
    assert not (tmp_path / "plain" / CURVES).exists()


@pytest.fixture(params=["tensorboard", "mlflow"])
def missing(request, monkeypatch):
    """A tracker whose package is not installed."""
    monkeypatch.setitem(sys.modules, request.param, None)
    return request.param


def test_without_the_package_the_message_says_how_to_get_it_and_nothing_trains(missing, tmp_path, capsys):
    parts = [f"train.tracker={missing}", "train.tracker=none", f"pip install 'regbench[{missing}]'"]
    assert_refused(["run", *TINY, f"train.tracker={missing}", f"results_dir={tmp_path / 'results'}"], parts, capsys)
    assert not (tmp_path / "results").exists()


def test_the_package_is_needed_only_by_what_is_to_be_trained(missing, plan, tiny, tmp_path):
    (planned,) = plan()
    (tmp_path / "runs").mkdir()
    train_run(planned.run, Path(tmp_path, "runs", planned.run_id))
    asked = f"train.tracker={missing}"
    assert plan(asked)[0].status == "done"
    with pytest.raises(UsageError, match=missing):
        plan(asked, "force=true")
    assert run_module.train_run(tiny(asked), tmp_path / "worker")["status"] == "failed"  # on a machine that lacks it
