"""A run that runs out of memory, and what it leaves of it to the next."""

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from test_checkpoint import NET, content_of, interrupt_after
from torch import nn

from bench.dataset import load_source, make_splits
from bench.dataset.batches import normalise
from bench.machine.memory import release_and_settle
from bench.record.folder import CHECKPOINT
from bench.training import run as run_module
from bench.training.evaluate import compute_logits
from bench.training.run import train_run
from bench.training.trainer import Trainer


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
@pytest.mark.parametrize("times", [1, 2])
def test_out_of_memory_is_tried_twice_and_told_with_the_batch_size(error, times, tiny, tmp_path, monkeypatch):
    left = [error] * times
    build_model = run_module.build_model

    def make(*arguments):
        if left:
            raise left.pop()
        return build_model(*arguments)

    monkeypatch.setattr(run_module, "build_model", make)
    result = train_run(tiny(), tmp_path)
    if times == 1:
        assert result["status"] == "done"
        return
    assert result["status"] == "failed"
    assert result["message"].startswith("out of memory on cpu with train.batch_size=16")
    assert "Traceback" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_second_try_goes_on_from_the_last_checkpoint_as_it_was_written(optimizer, tiny, tmp_path):
    """The first goes on from one, too, and has its optimizer change the tensors that were read."""
    run, left = tiny(*NET, f"optimizer={optimizer}", "train.epochs=3"), [torch.OutOfMemoryError("CUDA out of memory")]

    def on_epoch(*_):
        if left:
            raise left.pop()

    train_run(run, tmp_path / "whole")
    interrupt_after(2, run, tmp_path / "tried")
    train_run(run, tmp_path / "tried", on_epoch)
    assert (tmp_path / "tried" / "log.txt").read_text().count("goes on after") == 2
    assert content_of(tmp_path / "tried") == content_of(tmp_path / "whole")


def test_a_second_try_goes_on_from_what_the_first_has_written(tiny, tmp_path):
    run, left = tiny(*NET, "train.checkpoint_minutes=0"), [torch.OutOfMemoryError("CUDA out of memory")]

    def on_epoch(*_):
        if left:
            raise left.pop()

    train_run(run, tmp_path / "whole")
    train_run(run, tmp_path / "tried", on_epoch)
    assert "goes on after" in (tmp_path / "tried" / "log.txt").read_text()
    assert content_of(tmp_path / "tried") == content_of(tmp_path / "whole")


def test_running_out_of_memory_while_going_on_leaves_the_checkpoint(tiny, tmp_path, monkeypatch):
    interrupt_after(2, tiny(), tmp_path)

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "load_state_dict", fail)
    assert train_run(tiny(), tmp_path)["message"].startswith("out of memory on cpu")
    assert (tmp_path / CHECKPOINT).is_file()


def test_memory_is_released_between_runs(tiny, tmp_path, monkeypatch):
    models = []
    build_model = run_module.build_model

    def make(*arguments):
        model = build_model(*arguments)
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr(run_module, "build_model", make)
    train_run(tiny(), tmp_path / "done")
    train_run(tiny("optimizer.sgd.lr=1e30"), tmp_path / "diverged")
    gc.collect()
    assert [model() for model in models] == [None, None]


def test_releasing_looks_at_nothing_twice():
    release_and_settle()
    kept = [[] for _ in range(100_000)]  # as modules that a run imports
    release_and_settle()
    assert len(gc.get_objects()) < len(kept)
    garbage = type("Garbage", (), {})()
    garbage.itself, seen = garbage, weakref.ref(garbage)
    del garbage
    release_and_settle()
    assert seen() is None


def test_peak_memory_is_of_the_run(tiny, tmp_path):
    held = np.ones(600 * 2**20 // 8)
    large = train_run(tiny(), tmp_path / "large")["peak_memory_mib"]
    del held
    small = train_run(tiny(), tmp_path / "small")["peak_memory_mib"]
    assert large - small > 500


def test_peak_memory_is_that_of_training_alone(tiny, tmp_path, monkeypatch):
    """Not of trying kernels and compiling, which is the first run's alone, nor of evaluation."""
    events = []

    def note(target, name):
        act = getattr(target, name)
        monkeypatch.setattr(target, name, lambda *arguments: events.append(name) or act(*arguments))

    for name in ("reset_peak", "read_peak", "compute_logits"):
        note(run_module, name)
    for name in ("warm_up", "step"):
        note(Trainer, name)
    train_run(tiny("train.epochs=2", "dataset.val_fraction=0.2", "train.batch_size=32"), tmp_path)
    epoch = ["reset_peak", "step", "read_peak", "compute_logits"]
    shortened = [event for event, before in zip(events, [None, *events], strict=False) if event != before]
    assert shortened == ["warm_up", *epoch, *epoch, "reset_peak", "compute_logits"]


@pytest.mark.parametrize("held", [1, 5, 64, 512])
def test_evaluation_that_runs_out_of_memory_goes_on_with_smaller_batches(held, tiny):
    """Training in bf16 had fitted, and the message said to lower train.batch_size."""
    sizes = []

    class Large(nn.Module):
        def forward(self, images):
            sizes.append(len(images))
            if len(images) > held:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return images.flatten(1)[:, :10]

    planned = tiny("dataset.test_images=600")
    data = make_splits(planned.dataset, load_source(planned.dataset), torch.device("cpu"))
    logits = compute_logits(Large(), data.test, data)
    assert np.array_equal(logits, normalise(data.test.images, data).flatten(1)[:, :10].numpy())
    assert max(size for size in sizes[-2:]) <= held


def test_evaluation_of_one_image_that_runs_out_of_memory_is_a_failure(tiny):
    def forward(images):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model = nn.Identity()
    model.forward = forward
    planned = tiny()
    data = make_splits(planned.dataset, load_source(planned.dataset), torch.device("cpu"))
    with pytest.raises(torch.OutOfMemoryError):
        compute_logits(model, data.test, data)


_AT_THE_END = """
import gc, os

class Meta(type):
    pass

Meta.__module__ = "{library}"

class Bound(metaclass=Meta):
    def __del__(self, write=os.write):
        write(1, b"freed")

bound = Bound()
bound.itself = bound
{command}
"""
_FROM_A_COMMAND = "from bench.cli import main; main(['--version'])"
_FROM_A_WORKER = "from bench.machine.memory import release_and_settle; release_and_settle()"


@pytest.mark.parametrize("command", [_FROM_A_COMMAND, _FROM_A_WORKER])
@pytest.mark.parametrize(("library", "freed"), [("nanobind", True), ("another", False)])
def test_the_end_passes_over_what_is_left_but_not_where_a_library_counts_it(command, library, freed):
    script = _AT_THE_END.format(command=command, library=library)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("freed" in done.stdout) == freed
