"""A command's runs, checked against data and device, told apart from what is on record: everything before training.

Whatever is wrong with any of them is said here, so nothing trains on a command that cannot be finished.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from bench import UsageError
from bench.dataset import Source, load_source, split_indices
from bench.model import make_chosen
from bench.optimizer import make_optimizer
from bench.record import arm_id, read_result, run_folder, run_id
from bench.regularizer import make_slots
from bench.settings import Run, apply_settings
from bench.train import total_steps, warmup_steps


@dataclass(frozen=True)
class Planned:
    """A run with its identity and, where it is on record, its status: done, diverged or failed."""

    run: Run
    run_id: str
    status: str | None


def make_plan(runs: Sequence[Run], results: Path) -> list[Planned]:
    """The distinct runs of a command in their order; runs that are equal count once.

    Raises:
        UsageError: data missing or damaged, a device that is not there, or settings that do not fit the data.
    """
    planned: dict[str, Planned] = {}
    checked: set[str] = set()
    for run in runs:
        source = load_source(run.dataset)
        run = replace(resolve_device(run), fingerprint=source.fingerprint)
        if arm_id(run) not in checked:
            _check_fit(apply_settings(run), source)
            checked.add(arm_id(run))
        identifier = run_id(run)
        if identifier not in planned:
            result = read_result(run_folder(results, identifier))
            planned[identifier] = Planned(run, identifier, result["status"] if result else None)
    return list(planned.values())


def resolve_device(run: Run) -> Run:
    """The run with `auto` replaced: the GPU where there is one, and bf16 where the GPU computes in it, else fp32.

    Raises:
        UsageError: a GPU that is not there.
    """
    device, precision = run.train.device, run.train.precision
    gpus = torch.cuda.device_count()
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= gpus:
        there = f"cpu, or cuda:0 to cuda:{gpus - 1}" if gpus else "cpu: torch sees no CUDA device"
        raise UsageError(f"train.device={device} is not on this machine.\nIt has {there}.")
    if precision == "auto":
        precision = "bf16" if device.startswith("cuda") and _computes_bf16(device) else "fp32"
    return replace(run, train=replace(run.train, device=device, precision=precision))


def _computes_bf16(device: str) -> bool:
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _check_fit(run: Run, source: Source) -> None:
    """Raises UsageError where model, optimizer or budget cannot work with the data; builds, but trains nothing."""
    train, _ = split_indices(run.dataset, source.train_labels)
    if len(train) == 0:
        raise UsageError("validation leaves no image to train on.\nLower dataset.val_fraction.")
    if run.train.batch_size > len(train):
        raise UsageError(
            f"train.batch_size={run.train.batch_size} is more than the {len(train)} images to train on.\n"
            f"Set train.batch_size to at most {len(train)}, or raise dataset.train_size."
        )
    per_epoch = len(train) // run.train.batch_size
    steps = total_steps(run.train, per_epoch, make_slots(run.regularizers).gradient.evaluations_per_step)
    if steps == 0:
        raise UsageError(
            f"train.gradient_evaluations={run.train.gradient_evaluations} pays for no step: a step of "
            f"{run.regularizer} costs more.\nRaise it."
        )
    if steps <= warmup_steps(run.train, per_epoch):
        raise UsageError(
            f"the run would have {steps} steps, and the warm-up takes {warmup_steps(run.train, per_epoch)} of them.\n"
            "Raise train.gradient_evaluations (or train.epochs), or lower train.warmup_epochs."
        )
    _, height, width, channels = source.train_images.shape
    try:
        with torch.device("meta"):  # shapes without memory
            model = make_chosen(run.model, torch.Size((1, channels, height, width)), source.classes)
            model.train()(torch.zeros(run.train.batch_size, channels, height, width))
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"model {run.model.name} cannot train on batches of {run.train.batch_size} of these images: {error}"
        ) from error
    try:
        make_optimizer(run.optimizer, [nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise UsageError(f"optimizer {run.optimizer.name}: {error}") from error
