"""How many cores there are to use: those of a container's share, not of its machine."""

import builtins
import io
import json
import os

import joblib
import pytest
import torch
from conftest import TINY

from bench.cli import run as app
from bench.machine import cores
from bench.machine.cores import count_cores, limit_threads

CPU_MAX, QUOTA, PERIOD = (
    f"/sys/fs/cgroup/{name}" for name in ("cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
)


@pytest.fixture
def machine(monkeypatch):
    """A function: makes this a machine of 64 cores, with the files of a control group."""

    def make(files):
        exists, open_ = os.path.exists, builtins.open
        known = {CPU_MAX, QUOTA, PERIOD}

        def open_file(path, *arguments, **named):
            return io.StringIO(files[path]) if path in known else open_(path, *arguments, **named)

        monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
        monkeypatch.setattr("os.cpu_count", lambda: 64)
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
        monkeypatch.setattr("os.path.exists", lambda path: path in files if path in known else exists(path))
        monkeypatch.setattr("builtins.open", open_file)

    return make


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({CPU_MAX: "200000 100000\n"}, 2),
        ({CPU_MAX: "50000 100000\n"}, 1),
        ({CPU_MAX: "max 100000\n"}, 64),
        ({QUOTA: "400000\n", PERIOD: "100000\n"}, 4),
        ({QUOTA: "-1\n", PERIOD: "100000\n"}, 64),
        ({}, 64),
    ],
)
def test_a_containers_quota_counts(files, cores, machine):
    machine(files)
    assert count_cores() == cores


@pytest.fixture
def threads(monkeypatch):
    """torch as it starts on two cores, whatever this machine has; put back afterwards."""
    before = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def run_and_read_threads(folder):
    assert app.run([*TINY, f"results_dir={folder}"]) == 0
    (record,) = folder.glob("runs/*/result.json")
    return json.loads(record.read_text())["threads"], torch.get_num_threads()


@pytest.mark.parametrize(("quota", "taken"), [(1, 1), (2, 2), (64, 2)])
def test_a_plain_run_keeps_to_its_quota_and_records_its_threads(quota, taken, threads, tmp_path, monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: quota)
    assert run_and_read_threads(tmp_path) == (taken, taken)


def test_threads_that_the_user_has_set_are_the_users(threads, tmp_path, monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert run_and_read_threads(tmp_path) == (2, 2)


def test_torchs_compilers_keep_to_the_quota_too(threads, monkeypatch):
    monkeypatch.setattr(cores, "count_cores", lambda: 1)
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS")
    limit_threads()
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "1"
