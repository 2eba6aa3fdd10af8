"""What a plan, and the live line, tell of what is left."""

import json
import re

import torch
from conftest import TINY, compose

from bench.cli import run as app
from bench.console.escape import escape
from bench.disk.lock import take, this_process
from bench.record import folder as record
from bench.record.folder import CHECKPOINT, run_folder
from bench.sweep.launcher import Launcher
from bench.sweep.plan import Command, make_plan
from bench.sweep.worker import Worker
from bench.training.trainer import Epoch


def test_a_plan_tells_each_state_and_what_is_left_and_trains_nothing(tmp_path, capsys):
    def regbench(*overrides, act=app.run):
        return act([*TINY, f"results_dir={tmp_path}", *overrides]), capsys.readouterr().out

    assert regbench("regularizer=none,sam", "seed=0", "optimizer.sgd.lr=0.1,1e30")[0] == 1  # done and diverged
    ids = {p.run.seed: p.run_id for p in make_plan(Command("", compose(*TINY, "seed=1,2,3"), tmp_path))}
    failed = run_folder(tmp_path, ids[1])
    failed.mkdir(parents=True)
    original = next(tmp_path.glob("runs/*/result.json"))
    (failed / "history.csv").write_bytes((original.parent / "history.csv").read_bytes())
    (failed / "result.json").write_bytes(record.seal(json.loads(original.read_text()) | {"status": "failed"}))
    partial = run_folder(tmp_path, ids[2])
    partial.mkdir()
    state = {"gradient_evaluations": 3, "trainer": {"epoch": 0}}
    torch.save(state, partial / CHECKPOINT)
    with take(run_folder(tmp_path, ids[3])):
        before = sorted(tmp_path.rglob("*"))
        seeds = ("regularizer=none", "seed=0,1,2,3,4", "optimizer.sgd.lr=0.1,1e30")
        for act, more in ((app.plan, ()), (app.run, ("--dry-run",))):
            code, out = regbench(*seeds, *more, act=act)
            assert code == 0
            lines = [line for line in out.splitlines() if "synthetic mlp none sgd lr=0.1" in line]
            assert [re.split("  +", line)[0] for line in lines] == [
                *("done", "failed", "partial", "running elsewhere", "missing")
            ]
            assert "1 diverged" in out
            assert f"gradient evaluations left: {(3 + 4) * 8 - 3}" in out
            assert "of training, one run after the other" in out
        assert sorted(tmp_path.rglob("*")) == before


def test_the_time_left_is_reckoned_from_the_epochs_of_this_process(plan, tmp_path, monkeypatch):
    """A run goes on at epoch 151 of 200; an epoch takes 10 s."""
    clock, shown = [0.0], []
    (tmp_path / "runs").mkdir()

    def train(run, folder, on_epoch, *_):
        for number in (151, 152):
            clock[0] += 10
            on_epoch(Epoch(number, 200, 4, 1.0, 0.1, 10.0), {"train_loss": 1.0}, 100.0)

    monkeypatch.setattr("bench.sweep.worker.train_run", train)
    monkeypatch.setattr("bench.sweep.worker.time.monotonic", lambda: clock[0])
    Worker(plan(), tmp_path, Launcher(), this_process(), show=shown.append)(0)
    assert [line.partition(": ")[2].partition(" left")[0] for line in shown[1:]] == [
        "epoch 151/200, 8:10",
        "epoch 152/200, 8:00",
    ]


def test_control_characters_are_shown_not_sent():
    assert escape("a\x1b[2Jb\nc\té") == "a\\x1b[2Jb\nc\\té"
