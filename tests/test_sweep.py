"""What a sweep does with failures, with runs that others hold, and with launchers."""

import errno
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from conftest import TINY, compose
from test_lock import write_lock

from bench.cli import run as app
from bench.disk import files
from bench.disk.lock import take, this_process
from bench.errors import UsageError
from bench.record import tables
from bench.record.folder import run_folder
from bench.sweep import command as sweep
from bench.sweep.launcher.joblib import Joblib
from bench.sweep.launcher.submitit_slurm import SubmititSlurm
from bench.sweep.plan import Command, make_plan
from bench.sweep.watch import Watch
from bench.training import interrupt
from bench.training import run as run_module

TWO = (*TINY, "regularizer=none,sam")


@pytest.fixture
def regbench(tmp_path, capsys):
    """A function: overrides -> exit code and what was printed, with the results in a temporary folder."""

    def run(*overrides, act=app.run):
        code = act([*TWO, f"results_dir={tmp_path}", *overrides])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def two(tmp_path):
    return [planned.run_id for planned in make_plan(Command("adhoc", compose(*TWO), tmp_path))]


def statuses(folder):
    return [row["status"] for row in tables.read_rows(folder, "adhoc").values()]


@pytest.fixture
def failing(monkeypatch):
    """A switch: while it is on, runs without SAM fail."""
    switch = {"on": True}
    train = run_module._train

    def fail(run, *arguments):
        if switch["on"] and run.regularizer == "none":
            raise ZeroDivisionError("no reason")
        return train(run, *arguments)

    monkeypatch.setattr(run_module, "_train", fail)
    return switch


def test_a_failure_stops_no_other_run_and_is_tried_again_only_when_asked(failing, regbench, tmp_path, two):
    code, out = regbench()
    assert code == 1
    assert re.search(r"^failed: synthetic mlp none sgd seed 0 \(\w+\): ZeroDivisionError: no reason$", out, re.M)
    assert "Traceback" in (run_folder(tmp_path, two[0]) / "log.txt").read_text()
    assert sorted(statuses(tmp_path)) == ["done", "failed"]
    failing["on"] = False
    assert "2 on record, 0 to train" in regbench()[1]
    code, out = regbench("retry_failed=true")
    assert (code, statuses(tmp_path)) == (0, ["done", "done"])
    assert "1 on record, 1 to train" in out


def test_fail_fast_stops_at_the_first_failure(failing, regbench, tmp_path):
    code, out = regbench("fail_fast=true")
    assert (code, statuses(tmp_path)) == (1, ["failed"])
    assert "1 of 2 runs are not recorded" in out
    assert regbench()[0] == 1
    assert sorted(statuses(tmp_path)) == ["done", "failed"]


def test_a_sweep_that_is_stopped_leaves_no_note_of_a_failure(failing, regbench, tmp_path, monkeypatch):
    def stop(*arguments):
        raise interrupt.Interrupted(signal.SIGTERM)

    monkeypatch.setattr(interrupt, "stop_if_requested", stop)
    with pytest.raises(interrupt.Interrupted):
        regbench("fail_fast=true")
    assert statuses(tmp_path) == ["failed"]
    assert not list(tmp_path.glob("runs/.failed.*"))


def test_a_run_is_recorded_though_a_full_disk_has_no_room_for_the_note_of_its_failure(
    failing, regbench, tmp_path, monkeypatch
):
    touch = Path.touch

    def full(path, *arguments, **keywords):
        if path.name.startswith(".failed."):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        touch(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "touch", full)
    code, out = regbench("fail_fast=true")
    assert (code, statuses(tmp_path)) == (1, ["failed"])
    assert "not recorded:" not in out
    assert "1 of 2 runs are not recorded" in out


def test_an_experiments_folder_that_is_removed_in_mid_sweep_is_told_and_made_by_the_same_command(
    regbench, tmp_path, monkeypatch
):
    train = run_module._train

    def lose(*arguments):
        shutil.rmtree(tmp_path / "adhoc", ignore_errors=True)
        return train(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_train", lose)
        code, out = regbench()
    assert code == 1
    assert f"{tmp_path / 'adhoc'} was removed or renamed during the training" in out.replace("\n", " ")
    code, out = regbench()
    assert (code, statuses(tmp_path)) == (0, ["done", "done"])
    assert "2 on record, 0 to train" in out


def test_a_full_disk_loses_nothing(regbench, tmp_path, monkeypatch):
    fill = files._fill

    def full(part, path, write):
        if path.name == "result.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        fill(part, path, write)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_fill", full)
        code, out = regbench()
    assert code == 1
    assert len(re.findall("^not recorded: .* could not be recorded: .*No space left", out, re.M)) == 2
    assert statuses(tmp_path) == []
    assert regbench()[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(files, "_fill", full)
        code, out = regbench("force=true")
    assert code == 1  # what was asked for is not there, though an earlier record is
    assert "2 of 2 runs are not recorded" in out


def test_what_others_hold_is_waited_for_and_taken_over_when_they_die(regbench, tmp_path, two, monkeypatch):
    monkeypatch.setattr(sweep, "_SECONDS_BETWEEN_LOOKS", 0.05)
    folder = run_folder(tmp_path, two[0])
    folder.mkdir(parents=True)
    path = write_lock(folder)  # another machine's, alive
    print_waiting = Watch.print_waiting

    def wait(watch, owners):
        print_waiting(watch, owners)
        os.utime(path, (0, 0))  # it dies once it is waited for: no heartbeat for a long time

    monkeypatch.setattr(Watch, "print_waiting", wait)
    code, out = regbench()
    assert code == 0
    assert "in training elsewhere: synthetic mlp none sgd seed 0: elsewhere (pid 1)" in out
    held, other = ((run_folder(tmp_path, each) / "result.json").stat().st_mtime for each in two)
    assert other < held  # the others first


def test_a_run_whose_process_dies_again_and_again_is_recorded_as_failed_and_others_are_trained(tmp_path, two, capsys):
    launched = []

    def launch(worker, jobs):
        launched.append([planned.run.regularizer for planned in worker.todo])
        for planned in worker.todo:
            if planned.run.regularizer == "none":
                lock = take(run_folder(tmp_path, planned.run_id))
                owner = json.loads(lock.path.read_text())
                lock.release()
                write_lock(run_folder(tmp_path, planned.run_id), **owner | {"pid": 2**22 + 1})
                raise RuntimeError("a worker died")
        return worker(0)

    command = app.compose([*TWO, f"results_dir={tmp_path}"])._replace(launcher=Joblib(jobs=1))
    assert app.train_and_compare(command, launch) == 1
    assert launched == [["none", "sam"], ["sam"], ["none"], ["none"]]
    assert "synthetic mlp none sgd seed 0: failed: its process died 3 times" in capsys.readouterr().out
    assert statuses(tmp_path) == ["failed", "done"]
    assert "its process died 3 times" in (run_folder(tmp_path, two[0]) / "log.txt").read_text()


def test_a_death_that_cannot_be_recorded_is_told_and_the_others_are_trained(two, tmp_path, monkeypatch, capsys):
    """On a full disk it ended the sweep with a traceback, without tables."""

    def launch(worker, jobs):
        if any(planned.run.regularizer == "none" for planned in worker.todo):
            write_lock(run_folder(tmp_path, two[0]), **vars(this_process()) | {"pid": 2**22 + 1})
            raise RuntimeError("a worker died")
        return worker(0)

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    run_folder(tmp_path, two[0]).mkdir(parents=True)
    monkeypatch.setattr(sweep, "take", refuse)
    command = app.compose([*TWO, f"results_dir={tmp_path}"])._replace(launcher=Joblib(jobs=1))
    assert app.train_and_compare(command, launch) == 1
    assert "died 3 times, of a signal or for lack of memory, and that could not be recorded" in capsys.readouterr().out
    assert statuses(tmp_path) == ["done"]


def test_a_record_that_cannot_be_read_again_is_no_reason_to_train_for_ever(regbench, monkeypatch):
    trained = []
    monkeypatch.setattr("bench.sweep.worker.train_run", lambda run, *_: trained.append(run) or {"status": "done"})
    code, out = regbench()
    assert (code, len(trained)) == (1, 3 * 2)
    assert len(re.findall("^not recorded: .* was trained, and no record of it can be read", out, re.M)) == 2


def test_results_that_are_moved_away_in_mid_sweep_end_it_with_a_word_and_are_not_begun_anew(
    two, tmp_path, monkeypatch, capsys
):
    """All was trained again in the old place, without asked.txt."""
    results, moved = tmp_path / "results", tmp_path / "moved"
    train = run_module._train

    def move(*arguments):
        results.rename(moved)
        return train(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_train", move)
        with pytest.raises(UsageError, match=r"results is no longer there.*\n.*results_dir=FOLDER"):
            app.run([*TWO, f"results_dir={results}"])
    assert not results.exists()
    assert "the tables could not be written" in capsys.readouterr().out
    (held,) = moved.rglob("lock.*")
    held.unlink()  # its process, this one, would have ended
    assert app.run([*TWO, f"results_dir={moved}"]) == 0
    assert statuses(moved) == ["done", "done"]


def test_a_launcher_that_cannot_start_is_given_up(tmp_path, capsys):
    def launch(worker, jobs):
        raise ValueError("no such partition\nmore")

    command = app.compose([*TWO, f"results_dir={tmp_path}"])._replace(launcher=SubmititSlurm())
    assert app.train_and_compare(command, launch) == 1
    assert "submitit_slurm: ValueError: no such partition" in capsys.readouterr().out
