"""One run, top to bottom: seed, data, model, train, evaluate, record. Start reading here."""

import os
import platform
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench import __version__
from bench.dataset import load_source, make_splits
from bench.dataset.batches import Batches
from bench.evaluate import compute_logits, score
from bench.model import make_chosen
from bench.model.weights import weights_fingerprint
from bench.optimizer import make_optimizer
from bench.record import open_atomically, write_run
from bench.regularizer import make_slots
from bench.rng import global_stream
from bench.settings import Run, apply_settings
from bench.train import Diverged, Epoch, Trainer

WEIGHTS = "weights.pt"  # in the run's folder, where they are kept

# Called after each epoch with the epoch, its row of history.csv, and the images trained on per second.
OnEpoch = Callable[[Epoch, dict[str, Any], float], None]


def train_run(run: Run, folder: Path, on_epoch: OnEpoch, keep_weights: bool = False) -> dict[str, Any]:
    """Trains and records one run, and returns its result; what goes wrong in it is recorded, not raised.

    Args:
        run: checked, with device and precision resolved.
        folder: the run's; log.txt is written as it goes, all else at the end.
        on_epoch: told of each epoch.
        keep_weights: whether the trained model's state dict is kept as weights.pt, as it is where there is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keep_weights = keep_weights or (folder / WEIGHTS).is_file()  # those that are there must be the record's
    history: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    result: dict[str, Any] = {"status": "", "message": ""}
    with (folder / "log.txt").open("w", buffering=1) as log:
        try:
            result |= _describe(run)
            print(f"regbench {__version__}, torch {torch.__version__}, {result['hardware']}", file=log)
            model = _train(run, result, history, arrays, log.write, on_epoch)
            if keep_weights:
                with open_atomically(folder / WEIGHTS) as file:
                    torch.save({key: value.cpu() for key, value in model.state_dict().items()}, file)
            result["status"] = "done"
        except Diverged as error:
            result |= {"status": "diverged", "message": str(error)}
        except Exception as error:
            result |= {"status": "failed", "message": f"{type(error).__name__}: {error}"}
            traceback.print_exc(file=log)
        print(f"{result['status']} {result['message']}".strip(), file=log)
    write_run(folder, run, result, history, arrays)
    return result


def _train(
    run: Run,
    result: dict[str, Any],
    history: list[dict[str, Any]],
    arrays: dict[str, Any],
    log: Callable[[str], Any],
    on_epoch: OnEpoch,
) -> nn.Module:
    """The trained model; fills `result`, `history` and `arrays` as far as the run gets."""
    run = apply_settings(run)
    device = torch.device(run.train.device)
    _configure_torch(run)

    source = load_source(run.dataset)
    if run.fingerprint not in ("", source.fingerprint):  # as planned, if it was
        raise RuntimeError("the data have changed since the command was started")
    weights = run.model.values.get("weights")
    if weights and weights_fingerprint(weights) != run.contents.get("model.weights"):
        raise RuntimeError("the weights to start from have changed since the command was started")
    data = make_splits(run.dataset, source, device)
    batches = Batches(data, run.train.batch_size, run.dataset.values["augment"], run.seed)
    result["train_size"] = len(data.train)

    # Drawn on the CPU, so that a seed's initial weights are the same on every device.
    with global_stream(torch.device("cpu"), run.seed, "init"):
        model = make_chosen(run.model, data.shape, data.classes)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    slots = make_slots(run.regularizers)
    optimizer = make_optimizer(run.optimizer, model.parameters())
    trainer = Trainer(run, model, slots, optimizer, device)
    trainer.warm_up(batches)

    steps, seconds = 0, 0.0
    for epoch in trainer.epochs(batches):
        steps, seconds = steps + epoch.steps, seconds + epoch.seconds
        images_per_second = steps * run.train.batch_size / seconds
        result |= {
            "epochs": epoch.number,
            "gradient_evaluations": steps * slots.gradient.evaluations_per_step,
            "train_seconds": seconds,
            "images_per_second": images_per_second,
        }
        row = {"epoch": epoch.number, "train_loss": epoch.train_loss, "lr": epoch.lr, "seconds": epoch.seconds}
        if len(data.val):
            row |= score("val", compute_logits(model, data.val, data), data.val.labels.cpu().numpy())
        history.append(row)
        log(" ".join(f"{key}={value:.6g}" for key, value in row.items()) + "\n")
        on_epoch(epoch, row, images_per_second)

    # The test split is read here and nowhere else: once, after the last epoch.
    for name, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        if len(split) == 0:
            continue
        logits, labels = compute_logits(model, split, data), split.labels.cpu().numpy()
        result |= score(name, logits, labels)
        if name != "train":
            arrays |= {f"{name}_logits": logits, f"{name}_labels": labels}
    for key in ("val_logits", "val_labels"):
        arrays.setdefault(key, arrays[key.replace("val", "test")][:0])
    return model


def _describe(run: Run) -> dict[str, Any]:
    """What is known of a run before it starts; its numbers are None until they are measured."""
    return {
        "batch_size": run.train.batch_size,
        "precision": run.train.precision,
        "device": run.train.device.split(":")[0],
        "workers": 1,  # trainings at a time on this machine
        "threads": torch.get_num_threads(),
        "hardware": describe_hardware(run.train.device),
        "torch": torch.__version__,
    }


def describe_hardware(device: str) -> str:
    """A short description of what trains, without the host's name."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"


def _configure_torch(run: Run) -> None:
    """fp32 is IEEE float32, without TF32; `deterministic` gives equal rows for equal commands on CUDA too."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = not run.train.deterministic
    # For determinism; read once in a process, so it is set for runs that do not ask for it, too.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(run.train.deterministic)
