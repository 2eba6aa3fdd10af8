"""A run that goes on from its checkpoint ends as one that was never interrupted, to the last bit."""

import errno
import json
import os
import signal

import numpy as np
import pytest
import torch
from conftest import STACKS, write

from bench.config import plugins
from bench.errors import LockLost
from bench.record.folder import CHECKPOINT
from bench.training import checkpoint, interrupt
from bench.training import run as run_module
from bench.training.checkpoint import read_checkpoint
from bench.training.run import train_run

TIMES = {"resumed", "train_seconds", "evaluation_seconds", "wall_seconds", "images_per_second", "peak_memory_mib"}
NET = ("model=convnet", "model.width=8", "model.dropout=0", "dataset.val_fraction=0.2")


def interrupt_after(steps, run, folder):
    """Trains a run that is asked to stop after so many steps of its own."""
    polls = iter(range(1, 1000))
    with pytest.MonkeyPatch.context() as patch, interrupt.handling():
        requested = lambda: next(polls) >= steps and interrupt.request_stop(signal.SIGTERM) is None  # noqa: E731
        patch.setattr(checkpoint.interrupt, "stop_requested", requested)
        with pytest.raises(interrupt.Interrupted):
            train_run(run, folder)
    assert (folder / CHECKPOINT).is_file()
    assert not (folder / "result.json").exists()


def train_interrupted(run, folder, *after):
    """Trains a run that is asked to stop after so many steps, and again, and then goes on to its end."""
    for steps in after:
        interrupt_after(steps, run, folder)
    with interrupt.handling():
        return train_run(run, folder)


def content_of(folder):
    """All that is recorded, but for times and the digests of what holds them."""
    result = json.loads((folder / "result.json").read_text())
    history = [line.rpartition(",")[0] for line in (folder / "history.csv").read_text().splitlines()]
    with np.load(folder / "logits.npz") as arrays:
        logits = {name: array.tobytes() for name, array in arrays.items()}
    return {k: v for k, v in result.items() if k not in (*TIMES, "sha256")}, history, logits


SLOW = pytest.mark.slow  # all of the cross product; the others are what a change breaks first


@pytest.mark.parametrize(
    ("stack", "optimizer", "precision"),
    [
        *((stack, optimizer, "fp32") for stack in STACKS for optimizer in ("sgd", "adam")),
        *(("[mixup,sam]", optimizer, "bf16") for optimizer in ("sgd", "adam")),
        *((stack, "adam_sgd", "fp32") for stack in ("none", "[mixup,sam]")),  # it switches after step 3
        *(pytest.param(stack, "adamw", "fp32", marks=SLOW) for stack in STACKS),
        *(pytest.param(stack, o, "bf16", marks=SLOW) for stack in STACKS for o in ("sgd", "adam", "adamw")),
    ],
)
def test_an_interrupted_run_ends_bit_identical(stack, optimizer, precision, tiny, tmp_path):
    choices = (f"regularizer={stack}", f"optimizer={optimizer}", f"train.precision={precision}", "seed=3")
    run = tiny(*NET, "train.batch_size=20", *choices)
    whole = train_run(run, tmp_path / "whole")
    # In the first epoch of 3 steps, at its very end, and within the second.
    train_interrupted(run, tmp_path / "interrupted", 1, 2, 2)
    assert whole["status"] == "done"
    assert content_of(tmp_path / "interrupted") == content_of(tmp_path / "whole")
    assert not (tmp_path / "interrupted" / CHECKPOINT).exists()


def test_a_run_on_noisy_labels_and_a_long_tail_goes_on_with_the_same(tiny, tmp_path):
    options = ("dataset.label_noise=0.4", "dataset.imbalance=0.5", "dataset.noisy_validation=true")
    run = tiny(*NET, "train.batch_size=20", *options)
    train_run(run, tmp_path / "whole")
    resumed = train_interrupted(run, tmp_path / "interrupted", 1, 2)
    assert content_of(tmp_path / "interrupted") == content_of(tmp_path / "whole")
    assert resumed["train_clean_accuracy"] != resumed["train_accuracy"]


def test_a_checkpoint_whose_groups_do_not_hold_their_base_rate_goes_on_the_same(tiny, tmp_path):
    """As those of an older regbench."""
    run, folder = tiny(*NET, "train.batch_size=20", "train.schedule=cosine"), tmp_path / "interrupted"
    train_run(run, tmp_path / "whole")
    interrupt_after(2, run, folder)
    state = read_checkpoint(folder)
    for group in state["trainer"]["optimizer"]["param_groups"]:
        del group["base_lr"]
    checkpoint.write_checkpoint(folder, state)
    with interrupt.handling():
        train_run(run, folder)
    assert content_of(folder) == content_of(tmp_path / "whole")


def test_an_interrupt_during_the_last_evaluation_loses_no_step(tiny, tmp_path):
    run = tiny(*NET, "train.batch_size=20")
    train_run(run, tmp_path / "whole")
    train_interrupted(run, tmp_path / "interrupted", 7)  # 6 steps
    assert content_of(tmp_path / "interrupted") == content_of(tmp_path / "whole")


def test_checkpoints_are_written_in_their_own_time_and_left_alone_by_the_numbers(tiny, tmp_path, monkeypatch):
    written = []
    write = checkpoint.Checkpoints.write
    monkeypatch.setattr(checkpoint.Checkpoints, "write", lambda *a: (written.append(1), write(*a)))
    train_run(tiny("train.checkpoint_minutes=null"), tmp_path / "never")
    train_run(tiny("train.checkpoint_minutes=10"), tmp_path / "rarely")
    assert written == []
    train_run(tiny("train.checkpoint_minutes=0"), tmp_path / "always")
    assert len(written) > 8
    assert content_of(tmp_path / "always") == content_of(tmp_path / "never")


def test_a_rule_that_keeps_a_state_takes_it_along(tiny, tmp_path, monkeypatch):
    class Counting:
        evaluations_per_step = 1
        calls = 0

        def __call__(self, model, loss_closure, *, step=0):
            self.calls += 1
            model.zero_grad()
            loss = loss_closure() * self.calls  # so that a state that is lost shows
            loss.backward()
            return loss.detach()

        def state_dict(self):
            return {"calls": self.calls}

        def load_state_dict(self, state):
            self.calls = state["calls"]

    slots = run_module.make_slots
    monkeypatch.setattr(run_module, "make_slots", lambda r: slots(r).__class__(gradient=Counting()))
    train_run(tiny(), tmp_path / "whole")
    train_interrupted(tiny(), tmp_path / "interrupted", 2, 4)
    assert content_of(tmp_path / "interrupted") == content_of(tmp_path / "whole")


@pytest.mark.parametrize("as_tensor", [False, True])
def test_groups_keep_their_own_rates(as_tensor, tiny, tmp_path):
    """The rates that a checkpoint holds are those of its step."""
    code = (
        "import torch\ndef make(params):\n    first, *rest = params\n    rates = 0.01, 0.1\n"
        f"    rates = map(torch.tensor, rates) if {as_tensor} else rates\n"
        "    return torch.optim.Adam([{'params': p, 'lr': r} for p, r in zip(([first], rest), rates)])\n"
    )
    name = f"grouped_{as_tensor}".lower()
    text = f"# @package optimizer.{name}\nslot: optimizer\n_target_: {name}.make\n"
    plugins.use_folder(write(tmp_path / "own", {f"{name}.py": code, f"optimizer/{name}.yaml": text}))
    run = tiny(*NET, f"optimizer={name}", "train.batch_size=20", "train.schedule=one_cycle")
    whole = train_run(run, tmp_path / "whole")
    assert whole["status"] == "done", whole["message"]
    train_interrupted(run, tmp_path / "interrupted", 1, 2, 2)
    assert content_of(tmp_path / "interrupted") == content_of(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["empty", "junk", "half", "code"])
def test_a_damaged_checkpoint_is_set_aside_and_the_run_starts_over(damage, tiny, tmp_path, capsys):
    train_run(tiny(), tmp_path / "whole")
    folder = tmp_path / "damaged"
    interrupt_after(3, tiny(), folder)
    path = folder / CHECKPOINT
    if damage == "code":  # what would run code is not loaded
        checkpoint.write_checkpoint(folder, {"trainer": {"epoch": print}})
    else:
        path.write_bytes({"empty": b"", "junk": b"junk", "half": path.read_bytes()[:-2000]}[damage])
    train_run(tiny(), folder)
    assert "is damaged and set aside" in capsys.readouterr().err
    assert (folder / "checkpoint.damaged").is_file()
    assert content_of(folder) == content_of(tmp_path / "whole")


def test_a_checkpoint_that_its_record_has_outlived_is_not_gone_on_from(tiny, tmp_path):
    """A process that dies between the two leaves both."""
    interrupt_after(3, tiny(), tmp_path)
    left = (tmp_path / CHECKPOINT).read_bytes()
    train_run(tiny(), tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(left)
    os.utime(tmp_path / CHECKPOINT, (0, 0))
    train_run(tiny(), tmp_path)
    assert (tmp_path / "log.txt").read_text().count("goes on") == 1  # the first time
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_resumed_run_has_the_threads_that_it_began_with(tiny, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    interrupt_after(3, tiny(), tmp_path)
    torch.set_num_threads(2)
    try:
        assert train_run(tiny(), tmp_path)["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_without_space_for_a_checkpoint_the_run_goes_on(tiny, tmp_path, monkeypatch):
    train_run(tiny(), tmp_path / "whole")
    monkeypatch.setattr(checkpoint, "open_atomically", full)
    train_run(tiny("train.checkpoint_minutes=0"), tmp_path / "full")
    assert "no checkpoint could be written" in (tmp_path / "full" / "log.txt").read_text()
    assert content_of(tmp_path / "full") == content_of(tmp_path / "whole")


def test_a_full_disk_is_no_failure_of_the_run(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "_train", full)
    with pytest.raises(OSError, match="No space left"):
        train_run(tiny(), tmp_path)
    assert not (tmp_path / "result.json").exists()


def test_a_log_that_the_disk_has_no_space_for_is_lost_and_no_more(tiny, tmp_path):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    assert train_run(tiny(), tmp_path)["status"] == "done"


def test_neither_is_one_that_the_weights_do_not_fit_on(tiny, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="the weights could not be written"):
        train_run(tiny("train.checkpoint_minutes=null"), tmp_path, keep_weights=True)
    assert {path.name for path in tmp_path.iterdir()} == {"log.txt"}


def test_who_lost_the_lock_records_nothing(tiny, tmp_path):
    def lost():
        raise LockLost

    for minutes in ("null", "0"):  # found out at the end, or at the first checkpoint
        with pytest.raises(LockLost):
            train_run(tiny(f"train.checkpoint_minutes={minutes}"), tmp_path, keep_weights=True, may_write=lost)
        assert {path.name for path in tmp_path.iterdir()} == {"log.txt"}


def test_a_plan_reads_a_checkpoints_position_without_setting_anything_aside(tiny, tmp_path):
    interrupt_after(3, tiny(), tmp_path)
    assert read_checkpoint(tmp_path, lazily=True)["gradient_evaluations"] == 3
    (tmp_path / CHECKPOINT).write_bytes(b"junk")
    assert read_checkpoint(tmp_path, lazily=True) is None
    assert (tmp_path / CHECKPOINT).exists()


@pytest.mark.parametrize("place", ["weight", "directory", "digest"])
def test_a_flipped_bit_is_damage(place, tiny, tmp_path, capsys):
    train_run(tiny(), tmp_path / "whole")
    folder = tmp_path / "flipped"
    interrupt_after(3, tiny(), folder)
    weight = torch.load(folder / CHECKPOINT, weights_only=True)["trainer"]["model"]["7.weight"].numpy().tobytes()
    content = (folder / CHECKPOINT).read_bytes()
    # Of the directory at the end, where it begins: what reads there gets EINVAL.
    at = {"weight": content.index(weight) + 2, "directory": content.rindex(b"PK\x05\x06") + 19, "digest": -1}[place]
    damaged = bytearray(content)
    damaged[at] ^= 0x80
    (folder / CHECKPOINT).write_bytes(damaged)
    train_run(tiny(), folder)
    assert "is damaged and set aside" in capsys.readouterr().err
    assert content_of(folder) == content_of(tmp_path / "whole")


def test_a_checkpoint_that_does_not_fit_is_set_aside_and_a_retry_starts_over(tiny, tmp_path):
    """Such as that of an older version."""
    interrupt_after(3, tiny(), tmp_path)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    del state["trainer"]["model"]["7.weight"]
    checkpoint.write_checkpoint(tmp_path, state)
    result = train_run(tiny(), tmp_path)
    assert result["status"] == "failed"
    assert "the checkpoint does not fit" in result["message"]
    assert train_run(tiny(), tmp_path)["status"] == "done"


def test_a_checkpoint_that_cannot_be_read_now_is_left_alone(tiny, tmp_path, monkeypatch):
    interrupt_after(3, tiny(), tmp_path)
    monkeypatch.setattr(checkpoint, "_is_whole", full)
    with pytest.raises(OSError, match="No space left"):
        train_run(tiny(), tmp_path)
    assert (tmp_path / CHECKPOINT).is_file()


def test_hidden_files_that_are_not_ours_are_left_alone(tiny, tmp_path):
    (tmp_path / ".nfs0001").touch()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".result.json.123.part").touch()
    assert train_run(tiny(), tmp_path)["status"] == "done"
    assert {path.name for path in tmp_path.glob(".*")} == {".nfs0001", ".ipynb_checkpoints"}
