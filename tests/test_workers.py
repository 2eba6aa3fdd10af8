"""Processes that train for a sweep, for real: one that dies takes no other along, and none is left behind."""

import os
import signal
import time

import pytest
from test_survival import SMALL, TASK, output, start

from bench.disk.lock import holder, process_start
from bench.record import tables

pytestmark = pytest.mark.slow
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
KILLER = """
import os, signal
from torch import nn

class Killer(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, classes))
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        if self.steps > 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.net(x)
"""


def test_a_model_that_kills_its_process_costs_its_own_runs_alone(tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "killer.py").write_text(KILLER)
    (tmp_path / "mine" / "model" / "killer.yaml").write_text("# dies\n_target_: killer.Killer\n")
    own = ("--config-dir", "mine", *TASK, "model=killer,mlp", "regularizer=none,mixup", *JOBLIB)
    assert start(tmp_path, *own).wait(600) == 1
    rows = tables.read_rows(tmp_path / "results", "adhoc").values()
    told = {(row["model"], row["regularizer"]): (row["status"], row["message"][:22]) for row in rows}
    died = ("failed", "its process died 3 tim")
    assert told == {
        **{("killer", "none"): died, ("killer", "mixup"): died},
        **{("mlp", "none"): ("done", ""), ("mlp", "mixup"): ("done", "")},
    }, output(tmp_path)


def test_the_processes_of_a_pool_end_with_the_sweep_that_is_killed(tmp_path):
    """Each held 718 MB for the five minutes that a pool's process waits for another job."""
    sweep = start(tmp_path, *SMALL, "train.epochs=5000", *JOBLIB)
    runs = tmp_path / "results" / "runs"
    while len(owners := {owner for run in runs.glob("*") if (owner := holder(run))}) < 2:
        assert sweep.poll() is None, output(tmp_path)
        time.sleep(0.05)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    ends = time.monotonic() + 200  # less than the pool's own five minutes
    while any(process_start(owner.pid) == owner.started for owner in owners):
        assert time.monotonic() < ends
        time.sleep(0.1)
    assert len(list(runs.glob("*/checkpoint.pt"))) == 2
