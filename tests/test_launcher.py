"""What launchers are given: processes, threads, surroundings, and a job's own run; and what their processes do."""

import os
import pickle
import signal
import threading
from dataclasses import replace

import cloudpickle
import pytest
import submitit
from conftest import TINY, compose

from bench.cli import run as app
from bench.disk.lock import this_process
from bench.record import tables
from bench.sweep import worker
from bench.sweep.launcher import Launcher
from bench.sweep.launcher.joblib import Joblib
from bench.sweep.launcher.ray import Ray
from bench.sweep.launcher.submitit_local import SubmititLocal
from bench.sweep.launcher.submitit_slurm import SubmititSlurm
from bench.training import interrupt
from bench.training import run as run_module

TWO = (*TINY, "regularizer=none,sam")


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_joblib_always_has_a_process_of_its_own(jobs):
    """For a single job it takes the process that asks, which would die of what the job dies of."""
    assert Joblib().arrange({"n_jobs": 3}, jobs)["n_jobs"] == max(jobs, 2)


@pytest.fixture
def submitted(monkeypatch):
    """The sizes of the jobs that submitit was given; they are done in this process, one after the other."""
    sizes = []

    class Job:
        def __init__(self, content):
            self.content = content

        def results(self):
            act, arguments = pickle.loads(self.content)
            return [act(*arguments)]

    class Executor:
        def __init__(self, **settings):
            pass

        def update_parameters(self, **settings):
            pass

        def map_array(self, act, *columns):
            jobs = [cloudpickle.dumps((act, arguments)) for arguments in zip(*columns, strict=True)]
            sizes.extend(map(len, jobs))
            return map(Job, jobs)

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    monkeypatch.setattr(submitit, "JobEnvironment", type("JobEnvironment", (), {"job_id": "7"}))
    return sizes


@pytest.mark.slow
def test_a_job_of_a_cluster_takes_its_own_run_along_and_no_other(submitted, tmp_path):
    """With all of them in each job, an array of 5,000 took 5 GB."""
    slurm = (*TINY, "hydra/launcher=submitit_slurm", f"results_dir={tmp_path}")
    for seeds in ("0,1", "2,3", "range(4,14)"):
        assert app.run([*slurm, f"seed={seeds}"]) == 0
    assert len(tables.read_rows(tmp_path, "adhoc")) == len(submitted) == 14
    few, many = submitted[2:4], submitted[4:]  # Hydra's own part grows after a process's first command
    assert max(many) - min(few) < 200


def test_a_job_of_a_cluster_is_not_begun_once_another_has_failed(submitted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_module, "_train", lambda *_: 1 / 0)
    slurm = (*TINY, "hydra/launcher=submitit_slurm", f"results_dir={tmp_path}", "seed=0,1,2", "fail_fast=true")
    assert app.run([*slurm]) == 1
    assert len(submitted) == 3
    assert "2 of 3 runs are not recorded" in capsys.readouterr().out
    assert len(list(tmp_path.glob("runs/*"))) == 1  # the note is gone, too


@pytest.mark.parametrize("working", [False, True])
def test_a_process_whose_sweep_has_died_ends_as_soon_as_it_has_no_work(working, monkeypatch):
    """A pool's would wait for more, for minutes; one that trains writes its checkpoint first."""
    ended = threading.Event()
    monkeypatch.setattr(worker, "_SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(worker.os, "_exit", lambda code: ended.set())
    asked = threading.Event()
    monkeypatch.setattr(worker.interrupt, "request_stop", lambda number: asked.set())
    dead = replace(this_process(), pid=2**22 + 1)
    if not working:
        worker._follow(dead)
        assert ended.wait(60)
        return
    with worker._working():
        worker._follow(replace(dead, token="another"))
        assert asked.wait(60)
        assert not ended.is_set()
    assert ended.wait(60)


def test_workers_share_the_cores_whatever_is_left(monkeypatch):
    monkeypatch.setattr("bench.sweep.launcher.count_cores", lambda: 8)
    runs = compose(*TINY)
    assert Joblib().count_threads(runs) == 1
    assert Joblib(jobs=2).count_threads(runs) == 4
    assert SubmititLocal(jobs=2, cpus=3).count_threads(runs) == 3
    assert Ray(cpus=2).count_threads(runs) == 2
    assert Launcher().count_threads(runs) is None
    assert Joblib(jobs=2).count_jobs(runs) == 1


def test_what_is_launched_inherits_nothing_of_the_slurm_job_that_it_is_launched_from(tmp_path, monkeypatch):
    outer = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "100", "SLURM_CPUS_PER_TASK": "2", "SUBMITIT_EXECUTOR": "slurm"}
    settings = {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "mine", "SBATCH_PARTITION": "gpu"}
    for key, value in {**outer, **settings}.items():
        monkeypatch.setenv(key, value)
    command = app.compose([*TWO, f"results_dir={tmp_path}"])._replace(launcher=SubmititSlurm())
    seen = []

    def launch(worker, jobs):
        seen.append(dict(os.environ))
        raise OSError("no Slurm")

    assert app.train_and_compare(command, launch) == 1
    assert all(settings.items() <= each.items() and not outer.keys() & each.keys() for each in seen)
    assert seen
    assert outer.items() <= os.environ.items()  # what this process is in goes on


def test_a_pool_of_one_which_is_this_process_stops_when_asked(tmp_path, monkeypatch):
    """joblib runs a single job in the process that asks for it: to return would have the sweep launch it again."""
    command = app.compose([*TWO, f"results_dir={tmp_path}"])._replace(launcher=Joblib(jobs=1))
    launches = []

    def launch(worker, jobs):
        launches.append(jobs)
        monkeypatch.setattr(run_module, "_train", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or 1 / 0)
        return worker(0)

    with pytest.raises(interrupt.Interrupted):
        app.train_and_compare(command, launch)
    assert launches == [1]
