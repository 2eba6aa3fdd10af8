"""The step: what each slot does to it, what a budget pays for, and what ends a run."""

import copy
import json
import warnings
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import STACKS, TINY, compose, equal, make_trainer, train
from torch.nn.functional import cross_entropy

from bench.model.buffers import remake_statistics
from bench.sweep.device import resolve_device
from bench.training.run import train_run
from bench.training.trainer import Trainer

# --- the step --------------------------------------------------------------------------------------------------------


def test_plain_training_equals_a_plain_loop(tiny):
    run = tiny("train.schedule=constant")
    trainer, batches = make_trainer(run)
    model = copy.deepcopy(trainer.model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for epoch in range(2):
        for images, targets in batches.epoch(epoch):
            optimizer.zero_grad()
            cross_entropy(model(images), targets.argmax(1)).backward()
            optimizer.step()
    trained, _ = train(run)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("stack", ["none", "sam", "asam"])
def test_low_precision_follows_fp32(stack, precision, tiny):
    fp32, _ = train(tiny(f"regularizer={stack}", "train.precision=fp32"))
    run = tiny(f"regularizer={stack}")  # fp16 on the CPU is refused on the command line, but tests its scaling
    low, epochs = train(replace(run, train=replace(run.train, precision=precision)))
    assert all(value.dtype == torch.float32 for value in low.values())
    assert np.isfinite([epoch.train_loss for epoch in epochs]).all()
    assert not equal(fp32, low)
    for name, value in fp32.items():
        torch.testing.assert_close(low[name], value, rtol=0, atol=0.05)


def test_in_bf16_the_second_pass_sees_the_moved_weights(tiny):
    """One autocast context around both passes would hand the first pass's cached bf16 weights to the second."""
    trainer, batches = make_trainer(tiny("regularizer=sam", "regularizer.sam.rho=5", "train.precision=bf16"))
    outputs = []
    trainer.model.register_forward_hook(lambda module, given, out: outputs.append(out.detach().clone()))
    images, targets = next(batches.epoch(0))
    trainer.step(images, targets, 0)
    assert outputs[0].dtype == torch.bfloat16
    assert not torch.equal(outputs[0], outputs[1])


def test_clipping_bounds_the_final_gradient_only(tiny):
    run = tiny("train.clip_norm=1e-3", "train.schedule=constant", "regularizer=sam", "optimizer.sgd.momentum=0",
               "optimizer.sgd.nesterov=false")  # fmt: skip
    trainer, batches = make_trainer(run)
    norms, seen = [], []
    gradient = trainer.slots.gradient

    def spy(model, closure, *, step):
        loss = gradient(model, closure, step=step)
        seen.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())
        return loss

    object.__setattr__(trainer.slots, "gradient", spy)
    images, targets = next(batches.epoch(0))
    trainer.step(images, targets, 0)
    norms.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]).norm().item())
    assert seen[0] > 1e-2
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)


# --- budget and divergence -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stack", "steps"), [("none", 11), ("mixup", 11), ("sam", 5), ("[mixup,asam]", 5)])
def test_a_budget_pays_for_floor_of_budget_over_evaluations_steps_and_the_schedule_spans_them(stack, steps, tiny):
    trainer, batches = make_trainer(tiny(f"regularizer={stack}", "train.gradient_evaluations=11"))
    epochs = list(trainer.epochs(batches))
    assert sum(epoch.steps for epoch in epochs) == steps
    assert [epoch.number for epoch in epochs] == list(range(1, epochs[0].epochs + 1))
    last = 0.5 * (1 + np.cos(np.pi * (steps - 1) / steps))
    assert epochs[-1].lr == pytest.approx(0.1 * last)


def test_a_loss_that_stops_being_finite_names_its_step_and_is_recorded_as_diverged(tiny, tmp_path, monkeypatch):
    run = tiny("train.epochs=3")
    trainer_step = Trainer.step

    def step(self, images, targets, number):
        return trainer_step(self, images * (float("nan") if number == 6 else 1), targets, number)

    monkeypatch.setattr(Trainer, "step", step)
    result = train_run(run, tmp_path, lambda *_: None)
    assert result["status"] == "diverged"
    assert result["message"] == "the loss is nan at step 6"
    recorded = json.loads((tmp_path / "result.json").read_text())
    assert recorded["epochs"] == 1
    assert "test_accuracy" not in recorded


def test_a_real_divergence_is_recorded(tiny, tmp_path):
    result = train_run(tiny("optimizer.sgd.lr=1e30"), tmp_path, lambda *_: None)
    assert result["status"] == "diverged"
    assert "step" in result["message"]


def test_an_error_is_recorded_with_its_traceback_and_not_raised(tiny, tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("no reason")

    monkeypatch.setattr(Trainer, "step", fail)
    result = train_run(tiny(), tmp_path, lambda *_: None)
    assert result["status"] == "failed"
    assert result["message"] == "ZeroDivisionError: no reason"
    log = (tmp_path / "log.txt").read_text()
    assert "Traceback" in log
    assert "test_train.py" in log


# --- whole runs ------------------------------------------------------------------------------------------------------


def test_a_run_learns_easy_data_and_records_what_the_contract_says(tiny, tmp_path):
    run = tiny("dataset.train_images=400", "dataset.noise=0.1", "train.epochs=8")
    result = train_run(run, tmp_path, lambda *_: None)
    assert result["test_accuracy"] > 0.95
    assert result["test_nll"] < 0.3
    assert result["gradient_evaluations"] == 8 * (320 // 16)
    assert result["images_per_second"] == pytest.approx(8 * 320 / result["train_seconds"])
    assert {p.name for p in tmp_path.iterdir()} == {
        "config.yaml",
        "result.json",
        "history.csv",
        "logits.npz",
        "log.txt",
    }
    logits = np.load(tmp_path / "logits.npz")
    assert {name: logits[name].dtype.name for name in logits} == {
        "val_logits": "float32", "val_labels": "int64", "test_logits": "float32", "test_labels": "int64",
    }  # fmt: skip
    accuracy = (logits["test_logits"].argmax(1) == logits["test_labels"]).mean()
    assert accuracy == result["test_accuracy"]


@pytest.mark.parametrize(("dataset", "names"), [("digits", [*"0123456789"]), ("synthetic", [])])
def test_class_names_are_on_record_where_there_are_any(dataset, names, tmp_path):
    (run,) = compose(*TINY[3:], f"dataset={dataset}", "train.epochs=1")
    train_run(resolve_device(run), tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["class_names"] == names


def test_a_run_without_validation_leaves_those_numbers_out(tiny, tmp_path):
    result = train_run(tiny("dataset.val_fraction=0"), tmp_path, lambda *_: None)
    assert result["status"] == "done"
    assert "val_accuracy" not in result
    assert result["train_size"] == 80
    assert np.load(tmp_path / "logits.npz")["val_logits"].shape == (0, 4)


def test_train_metrics_are_of_the_clean_images_and_nll_is_not_the_objective(tiny, tmp_path):
    smoothed = (
        "regularizer=[mixup,label_smoothing]",
        "train.epochs=6",
        "dataset.train_images=400",
        "dataset.noise=0.1",
    )
    result = train_run(tiny(*smoothed), tmp_path, lambda *_: None)
    last = (tmp_path / "history.csv").read_text().splitlines()[-1].split(",")
    assert result["train_nll"] < 0.8 * float(last[2])


def test_a_full_disk_leaves_no_record(tiny, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bench.record.folder.RunFolder.record", full)
    with pytest.raises(OSError, match="No space"):
        train_run(tiny(), tmp_path, lambda *_: None)
    assert not (tmp_path / "result.json").exists()


def test_what_is_neither_training_nor_evaluation_is_on_record(tiny, tmp_path):
    result = train_run(tiny(), tmp_path)
    assert 0 < result["train_seconds"] + result["evaluation_seconds"] < result["wall_seconds"]


@contextmanager
def waits_forbidden():
    """Within it what waits for the GPU is an error."""
    try:
        with warnings.catch_warnings():  # it says that it is a prototype, after it is set
            warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype feature")
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_switch_that_forbids_waiting_is_put_back_whatever_it_warns_of(monkeypatch):
    """Its first use warns, which is an error in tests: from there on every copy of every test raised."""
    modes = []

    def set_mode(mode):
        modes.append(mode)
        if len(modes) == 1:
            warnings.warn("Synchronization debug mode is a prototype feature and does not yet detect all", stacklevel=2)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    with waits_forbidden():
        pass
    with pytest.raises(ZeroDivisionError), waits_forbidden():
        raise ZeroDivisionError
    assert modes == ["error", "default"] * 2


@pytest.mark.cuda
@pytest.mark.parametrize("stack", STACKS)
def test_nothing_in_an_epochs_steps_waits_for_the_device(stack, tiny):
    """But for drawing the epoch at its start and reading the losses at its end; fp16's scaling waits, too."""
    overrides = (f"regularizer={stack}", "model=convnet", "train.device=cuda", "train.precision=bf16")
    (run,) = compose(*TINY, *overrides, "dataset.augment=standard", "train.clip_norm=1")
    trainer, batches = make_trainer(run)
    trainer.warm_up(batches)
    left = batches.epoch(0)
    trainer.step(*next(left), 0)
    with waits_forbidden():
        losses = []
        for step, (images, targets) in enumerate(left, start=1):
            losses.append(trainer.step(images, targets, step))
            trainer.move_average(step, 2 * batches.per_epoch, batches.per_epoch)
        remake_statistics(trainer.model, [images])
    assert torch.stack(losses).isfinite().all()


@pytest.mark.cuda
def test_on_cuda_everything_lies_there_and_autocast_computes_in_bf16(tiny):
    overrides = ("regularizer=[mixup,look_sam]", "model=convnet", "train.device=cuda", "train.precision=bf16")
    (run,) = compose(*TINY, *overrides)
    trainer, batches = make_trainer(resolve_device(run))
    seen = set()
    trainer.model[0].register_forward_hook(lambda module, given, out: seen.add((out.dtype, out.is_cuda)))
    for step, (images, targets) in enumerate(batches.epoch(0)):
        assert images.is_cuda
        assert images.is_contiguous(memory_format=torch.channels_last)
        trainer.step(images, targets, step)
    assert seen == {(torch.bfloat16, True)}
    assert all(value.is_cuda for value in trainer.model.state_dict().values())
    assert all(value.is_cuda for value in trainer.slots.gradient.kept.values())


@pytest.mark.cuda
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_trains_every_stack_and_repeats_itself_when_deterministic(stack, precision, tmp_path):
    overrides = (*TINY, f"regularizer={stack}", f"train.precision={precision}", "train.deterministic=true")
    (run,) = compose(*overrides, "train.device=cuda", "model=convnet")
    results = [train_run(resolve_device(run), tmp_path / name, lambda *_: None) for name in "ab"]
    assert results[0]["status"] == "done", results[0]["message"]
    assert results[0]["test_nll"] == results[1]["test_nll"]


@pytest.mark.cuda
@pytest.mark.parametrize("model", ["fastnet", "resnet8", "preact_resnet18", "wide_resnet"])
def test_cuda_trains_our_models_deterministically(model, tmp_path):
    tiny = [override for override in TINY if not override.startswith("model")]  # some have no width
    (run,) = compose(*tiny, f"model={model}", "train.device=cuda", "train.deterministic=true")
    result = train_run(resolve_device(run), tmp_path)
    assert result["status"] == "done", result["message"]
