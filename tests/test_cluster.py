"""Launchers for real: pools and processes here, Ray as two nodes, Slurm with a job requeued in training.

`make test-cluster` runs these. Slurm needs root and Debian's slurm-wlm and munge.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_survival import SMALL, finish, output, start, tables, trainings

from bench.disk.lock import holder

pytestmark = pytest.mark.cluster
SCRIPTS = Path(__file__).parents[1] / "scripts"
RAY = Path(sys.executable).with_name("ray")
PORT = 6399
LONG = (*SMALL, "train.epochs=60", "train.precision=fp32")  # on a cluster auto is fp32, whatever this CPU has
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
LOCAL = ("hydra/launcher=submitit_local", "hydra.launcher.array_parallelism=2")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same runs by one process that is left alone."""
    folder = tmp_path_factory.mktemp("alone")
    finish(folder, *LONG)
    return tables(folder)


def owners(folder):
    """The processes that train."""
    runs = (folder / "results" / "runs").glob("*")
    return {owner.pid for run in runs if (owner := holder(run))}


def wait_until(condition, seconds=600):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def logs(folder):
    return "".join(path.read_text() for path in folder.rglob("log.txt"))


def numbers(read):
    """Tables but for how many trained at a time, and with which threads."""
    return {
        name: [{k: v for k, v in row.items() if k not in ("workers", "threads")} for row in rows]
        for name, rows in read.items()
    }


def assert_finished(sweep, folder, alone):
    assert sweep.wait(300) == 0, output(folder)
    assert numbers(tables(folder)) == numbers(alone)
    assert set(trainings(folder).values()) == {1}


@pytest.mark.parametrize("launcher", [JOBLIB, LOCAL])
def test_a_worker_that_is_killed_does_not_take_the_sweep_down(launcher, alone, tmp_path, monkeypatch):
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path / "cache"))
    sweep = start(tmp_path, *LONG, *launcher)
    first = wait_until(lambda: (found := owners(tmp_path)) and len(found) == 2 and found)
    assert sweep.pid not in first
    wait_until(lambda: len(list(tmp_path.rglob("checkpoint.pt"))) == 2)
    os.kill(min(first), signal.SIGKILL)
    most = 0
    while sweep.poll() is None:
        most = max(most, len(owners(tmp_path)))
        time.sleep(0.05)
    assert most <= 2  # at a time, also after a death
    assert_finished(sweep, tmp_path, alone)
    assert "goes on after" in logs(tmp_path)


@pytest.mark.parametrize("launcher", [JOBLIB, LOCAL])
def test_workers_of_a_sweep_that_is_killed_stop_and_the_same_command_continues(launcher, alone, tmp_path, monkeypatch):
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path / "cache"))
    sweep = start(tmp_path, *LONG, *launcher)
    wait_until(lambda: len(list(tmp_path.rglob("checkpoint.pt"))) == 2)
    sweep.kill()  # it alone
    sweep.wait()
    wait_until(lambda: not owners(tmp_path), 30)
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 2
    assert_finished(start(tmp_path, *LONG, *launcher), tmp_path, alone)


@pytest.mark.parametrize("launcher", [JOBLIB, LOCAL])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_workers_write_checkpoints_when_their_sweep_is_asked_to_stop(number, launcher, alone, tmp_path, monkeypatch):
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path / "cache"))
    never = "train.checkpoint_minutes=null"  # but then
    sweep = start(tmp_path, *LONG, never, *launcher)
    wait_until(lambda: len(list(tmp_path.rglob("log.txt"))) == 2 and "epoch=2" in logs(tmp_path))
    sweep.send_signal(number)
    assert sweep.wait(600) == 128 + number
    assert not owners(tmp_path)
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 2
    assert_finished(start(tmp_path, *LONG, never, *launcher), tmp_path, alone)


def test_two_sweeps_with_workers_of_their_own_share_the_runs(alone, tmp_path):
    sweeps = [start(tmp_path, *LONG, *JOBLIB) for _ in range(2)]
    for sweep in sweeps:
        assert_finished(sweep, tmp_path, alone)


@pytest.fixture(scope="module")
def ray_cluster():
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")  # as the script does
        try:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # the nodes keep a pipe open
            subprocess.run([SCRIPTS / "start_ray.sh", RAY, str(PORT)], check=True, timeout=120, **quiet)
            yield f"hydra.launcher.ray.init.address=127.0.0.1:{PORT}"
        finally:
            subprocess.run([SCRIPTS / "stop_ray.sh", RAY], check=True, timeout=60, capture_output=True)


def test_ray_spreads_runs_over_two_nodes_and_tries_again_when_a_worker_dies(ray_cluster, alone, tmp_path):
    sweep = start(tmp_path, *LONG, "hydra/launcher=ray", ray_cluster)
    workers = wait_until(lambda: (found := owners(tmp_path)) and len(found) == 2 and found)  # each node has one CPU
    wait_until(lambda: len(list(tmp_path.rglob("checkpoint.pt"))) == 2)
    os.kill(min(workers), signal.SIGKILL)
    assert_finished(sweep, tmp_path, alone)


def test_ray_starts_on_this_machine_and_stops_again(alone, tmp_path):
    assert_finished(start(tmp_path, *LONG, "hydra/launcher=ray"), tmp_path, alone)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    missing = [command for command in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(command)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root, and Debian's slurm-wlm and munge: {', '.join(missing) or 'no root'}")
    folder = Path("/tmp", f"regbench-slurm-{os.getpid()}")  # munged wants parents that no one else can write to
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        try:
            subprocess.run([SCRIPTS / "start_slurm.sh", folder], check=True, timeout=90)
            yield ("hydra/launcher=submitit_slurm", "hydra.launcher.partition=main", "hydra.launcher.cpus_per_task=1")
        finally:
            subprocess.run([SCRIPTS / "stop_slurm.sh", folder], check=True, timeout=60)
            shutil.rmtree(folder, ignore_errors=True)


def slurm_jobs():
    done = subprocess.run(["squeue", "--noheader", "--format=%A"], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_slurm_job_that_is_requeued_in_training_goes_on_from_its_checkpoint(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path / "cache"))
    one = (*LONG, "train.epochs=150", "regularizer=sam", "optimizer=adam", "seed=0", "train.checkpoint_minutes=null")
    finish(tmp_path / "alone", *one)
    folder = tmp_path / "requeued"
    sweep = start(folder, *one, *slurm)

    def requeue(*command):
        wait_until(lambda: owners(folder))
        wait_until(lambda: any("epoch=" in path.read_text() for path in folder.rglob("log.txt")))
        (job,) = set(slurm_jobs())
        subprocess.run([*command, job], check=True)
        wait_until(lambda: not owners(folder), 60)
        assert list(folder.rglob("checkpoint.pt"))
        assert not list(folder.rglob("result.json"))

        def started():  # Slurm waits two minutes before it starts a job again, unless it is told otherwise
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True)
            return owners(folder)

        wait_until(started)

    requeue("scontrol", "requeue")
    requeue("scancel", "--signal=USR2")  # as it comes before the time limit, and at a preemption
    assert_finished(sweep, folder, tables(tmp_path / "alone"))
    assert logs(folder).count("goes on after") == 2
