"""One run, top to bottom: seed, data, model, train, evaluate, record. Start reading here."""

import errno
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.config.settings import Run, apply_settings
from bench.dataset import Data, Split, load_source, make_splits
from bench.dataset.batches import Batches, normalise
from bench.disk.files import remove_parts
from bench.disk.gone import is_file, remove, unless_gone
from bench.errors import Diverged, LockLost
from bench.machine.device import describe_hardware
from bench.machine.memory import ran_out, read_peak, release, reset_peak
from bench.machine.switches import set_switches
from bench.measure.scores import score_run
from bench.model import build_model
from bench.model.weights import weights_fingerprint, write_weights
from bench.optimizer import make_optimizer
from bench.record.folder import CHECKPOINT, RESULT, WEIGHTS, RunFolder, RunResult, read_result
from bench.regularizer import make_slots, no_average
from bench.rng import global_stream, kept_numpy_and_python
from bench.status import Status
from bench.training.budget import count_evaluations
from bench.training.checkpoint import Checkpoints, read_checkpoint, resume
from bench.training.compile import forget_compiled
from bench.training.evaluate import compute_logits, score
from bench.training.interrupt import deferring
from bench.training.probing import measure
from bench.training.tracker import Tracker
from bench.training.trainer import Epoch, Trainer
from bench.version import __version__

_SHOWN = 5000  # training images that a model may look at before it is trained

# Called after each epoch with the epoch, its row of history.csv, and the images trained on per second.
OnEpoch = Callable[[Epoch, dict[str, Any], float], None]


def train_run(
    run: Run,
    folder: Path,
    on_epoch: OnEpoch = lambda *_: None,
    keep_weights: bool = False,
    workers: int = 1,
    may_write: Callable[[], None] = lambda: None,
    evaluation: Sequence[str] = (),
    exp: str = "adhoc",
) -> dict[str, Any]:
    """Trains and records one run, and returns its result; what goes wrong in it is recorded, not raised.

    It goes on from its checkpoint, where it has one.

    Args:
        run: checked, with device and precision resolved.
        folder: the run's, which no other process works in; log.txt is added to as it goes, all else written at the end.
        on_epoch: called after each epoch.
        keep_weights: whether the trained model's state dict is kept as weights.pt, as it is where there is one.
        workers: trainings at a time on this machine, for the record.
        may_write: raises LockLost where the run is another process's by now; nothing is recorded then.
        evaluation: probes that measure the trained model, once it is recorded.
        exp: the experiment that it is trained for, for a tracker.

    Raises:
        OSError: it could not be recorded, on a full disk for one.
        Interrupted: a signal asked to stop; there is a checkpoint.
    """
    folder.mkdir(exist_ok=True)
    _tidy(folder)
    keep_weights = keep_weights or is_file(folder / WEIGHTS)  # those that are there must be the record's
    checkpoint, started, weights = read_checkpoint(folder), time.perf_counter(), None
    result, own = RunResult(_describe(run) | {"workers": workers}), RunFolder(folder, may_write)
    with deferring(), kept_numpy_and_python(), Tracker(run, exp, own) as tracker:
        own.log(f"regbench {__version__}, torch {torch.__version__}, {result.row['hardware']}\n")
        try:
            with _threads(checkpoint["threads"] if checkpoint else None):
                model = _train_with_retry(run, tracker, result, checkpoint, on_epoch)
            result.row["status"] = Status.DONE
            if keep_weights:
                weights = partial(write_weights, model)
        except LockLost:
            raise
        except Diverged as error:
            result.row |= {"status": Status.DIVERGED, "message": str(error)}
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # that says nothing about the run
            result.row |= {"status": Status.FAILED, "message": _message(error, run)}
            own.log(traceback.format_exc())
        own.log(f"{result.row['status']} {result.row['message']}".strip() + "\n")
        # Of this process alone, where the run went on from a checkpoint; what the tables hold adds up.
        result.row["wall_seconds"] = time.perf_counter() - started
        own.record(run, result, weights)
        tracker.end(result)
        if result.row["status"] != Status.FAILED:  # where it failed, going on may be worth hours
            remove(folder / CHECKPOINT)
        if result.row["status"] == Status.DONE and evaluation:
            measure(model, run, own, result.row | result.progress, evaluation)
    return result.row | result.progress


def record_death(run: Run, own: RunFolder, message: str, workers: int, exp: str) -> None:
    """Records as failed a run whose process could not do so itself; arguments as `train_run` has them."""
    own.log(f"failed {message}\n")
    result = RunResult(_describe(run) | {"workers": workers, "status": Status.FAILED, "message": message})
    own.record(run, result)
    Tracker(run, exp, own).end_left(result)


def _tidy(folder: Path) -> None:
    """Removes what a dead process left half-written, and a checkpoint that its record has outlived."""
    remove_parts(folder)
    result = read_result(folder)
    saved, recorded = (unless_gone((folder / name).stat) for name in (CHECKPOINT, RESULT))
    over = result is not None and result["status"] != Status.FAILED
    if over and saved and recorded and saved.st_mtime_ns <= recorded.st_mtime_ns:
        remove(folder / CHECKPOINT)


def _train_with_retry(
    run: Run, tracker: Tracker, result: RunResult, checkpoint: dict[str, Any] | None, on_epoch: OnEpoch
) -> nn.Module:
    """The trained model; a run that runs out of memory gets a second try, with a cleaned cache, from the last
    checkpoint: the first may have written a newer one, and its optimizer has changed the tensors of the old."""
    described = dict(result.row)
    try:
        return _train(run, tracker, result, checkpoint, on_epoch)
    except Exception as error:
        if not ran_out(error):
            raise
    release()
    result.row, result.progress, result.history, result.arrays = described, {}, [], {}
    return _train(run, tracker, result, read_checkpoint(tracker.folder.path), on_epoch)


def _train(
    run: Run, tracker: Tracker, result: RunResult, checkpoint: dict[str, Any] | None, on_epoch: OnEpoch
) -> nn.Module:
    """The trained model; fills `result` as far as the run gets."""
    run, own = apply_settings(run), tracker.folder
    device = torch.device(run.train.device)
    row, progress = result.row, result.progress
    configure_torch(run)

    data = _load_data(run, device)
    batches = Batches(data, run.train.batch_size, run.dataset.values["augment"], run.seed)
    row |= data.describe() | {"threads": torch.get_num_threads()}

    trainer = make_trainer(run, data)
    started = time.perf_counter()
    trainer.warm_up(batches)
    own.log(f"warmed up in {time.perf_counter() - started:.2f} s, which is no training. {trainer.note}\n")
    model, slots = trainer.model, trainer.slots
    if checkpoint:
        resume(trainer, checkpoint, own.path)
        progress |= checkpoint["progress"]
        row["resumed"] = True
        result.history += checkpoint["history"]
        own.log(f"goes on after {len(result.history)} epochs and {len(trainer.losses)} steps\n")

    def evaluate(name: str, split: Split, shown: Any = None) -> tuple[dict[str, float], dict[str, Any]]:
        started = time.perf_counter()
        with shown or nullcontext(), global_stream(device, run.seed, "evaluate"):
            logits, labels = compute_logits(model, split, data), split.labels.cpu().numpy()
        true_labels = None if split.true_labels is None else split.true_labels.cpu().numpy()
        metrics = score(name, logits, labels, true_labels)
        progress["evaluation_seconds"] = progress.get("evaluation_seconds", 0.0) + time.perf_counter() - started
        return metrics, {f"{name}_logits": logits, f"{name}_labels": labels}

    reset_peak(device)  # what it takes to try cuDNN's kernels, or to compile, is the first run's of a process alone
    checkpoints = Checkpoints(own, run.train.checkpoint_minutes, result)
    tracker.begin(result.history, resumed=bool(checkpoint))
    for epoch in trainer.epochs(batches, checkpoints):
        peaks = (progress.get("peak_memory_mib"), read_peak(device))
        progress |= {
            "epochs": epoch.number,
            **_count_costs(trainer, progress.get("train_seconds", 0.0) + epoch.seconds),
            "peak_memory_mib": max((peak for peak in peaks if peak is not None), default=None),
        }
        line = {"epoch": epoch.number, "train_loss": epoch.train_loss, "lr": epoch.lr, "seconds": epoch.seconds}
        if len(data.val):
            line |= evaluate("val", data.val, trainer.averaged.shown(trainer.unmixed(batches)))[0]
            reset_peak(device)
        result.history.append(line)
        own.log(" ".join(f"{key}={value:.6g}" for key, value in line.items()) + "\n")
        tracker.add(line)
        on_epoch(epoch, line, progress["images_per_second"])

    if slots.average is not no_average:  # a part of the training, done anew where a run goes on from here
        started = time.perf_counter()
        trainer.averaged.use(trainer.unmixed(batches))
        trainer.synchronise()
        seconds = sum(line["seconds"] for line in result.history) + time.perf_counter() - started
        progress |= _count_costs(trainer, seconds, trainer.evaluations_at_end(batches.per_epoch))
    # The test split is read here and nowhere else: once, after the last epoch.
    for name, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        if len(split) == 0:
            continue
        if checkpoints.due():
            checkpoints.write(trainer)
        metrics, arrays = evaluate(name, split)
        row |= metrics
        if name != "train":
            result.arrays |= arrays
    for key in ("val_logits", "val_labels"):
        result.arrays.setdefault(key, result.arrays[key.replace("val", "test")][:0])
    row |= score_run(row, result.arrays) | {"message": trainer.note}
    return model


def _count_costs(trainer: Trainer, seconds: float, more_evaluations: int = 0) -> dict[str, Any]:
    """What the steps made so far have cost, by column; `more_evaluations` are those of no step."""
    evaluations = count_evaluations(trainer.steps, trainer.slots.gradient.evaluations_per_step)
    return {
        "gradient_evaluations": evaluations + more_evaluations,
        "train_seconds": seconds,
        "images_per_second": trainer.steps * trainer.run.train.batch_size / seconds,
    }


def _load_data(run: Run, device: torch.device) -> Data:
    """The run's data on its device.

    Raises:
        RuntimeError: they, or the weights to start from, are others than when the run was planned.
    """
    source = load_source(run.dataset)
    if run.fingerprint not in ("", source.fingerprint):  # as planned, if it was
        raise RuntimeError("the data have changed since the command was started")
    weights = run.model.values.get("weights")
    if weights and weights_fingerprint(weights) != run.contents.get("model.weights"):
        raise RuntimeError("the weights to start from have changed since the command was started")
    return make_splits(run.dataset, source, device)


def make_trainer(run: Run, data: Data) -> Trainer:
    """A trainer of the run's model, with its settings applied, on its device.

    The weights are drawn on the CPU, so that a seed's are the same on every device.
    """
    with global_stream(torch.device("cpu"), run.seed, "init"):
        model = build_model(
            run.model, data.shape, data.classes, lambda: normalise(data.train.images[:_SHOWN], data).cpu()
        )
    device = torch.device(run.train.device)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with global_stream(device, run.seed, "slots"):
        slots, optimizer = make_slots(run.regularizers), make_optimizer(run.optimizer, model.parameters())
    return Trainer(run, model, slots, optimizer, device)


def _message(error: Exception, run: Run) -> str:
    """What went wrong, for the tables; log.txt has the traceback."""
    text = f"{type(error).__name__}: {error}"
    if not ran_out(error):
        return text
    size = f"train.batch_size={run.train.batch_size}"
    return f"out of memory on {run.train.device} with {size}: lower it, or take a smaller model ({text})"


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Within it torch has so many threads: sums depend on it, so a run goes on with those that it began with."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _describe(run: Run) -> dict[str, Any]:
    """What is known of a run before it starts; its numbers are None until they are measured."""
    return {
        "status": "",
        "message": "",
        "batch_size": run.train.batch_size,
        "precision": run.train.precision,
        "device": run.train.device.split(":")[0],
        "threads": torch.get_num_threads(),
        "hardware": describe_hardware(run.train.device),
        "torch": torch.__version__,
    }


def configure_torch(run: Run) -> None:
    """torch's switches as the run needs them; what an earlier one compiled is forgotten."""
    set_switches(deterministic=run.train.deterministic)
    if run.train.compile:
        forget_compiled()
