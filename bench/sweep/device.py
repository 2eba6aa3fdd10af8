"""What `auto` means: the device and the precision that a run is trained on."""

from collections.abc import Iterable
from dataclasses import replace

from bench.config.settings import Run
from bench.errors import UsageError
from bench.machine.device import computes_bf16, describe_problem, find_gpus
from bench.sweep.launcher import THIS_PROCESS, Launcher


def resolve_device(run: Run, launcher: Launcher = THIS_PROCESS) -> Run:
    """The run with `auto` replaced: the GPU where there is one, and bf16 where the device computes in it, else fp32.

    Where a launcher deals out devices, this machine's say nothing: `auto` is cuda in bf16 if it is asked for GPUs, else
    the CPU in fp32, and a device that is named is not looked for.

    Raises:
        UsageError: a device that is not there, or a precision that it does not have.
    """
    device, precision = run.train.device, run.train.precision
    if device == "auto":
        device = "cuda" if (launcher.gpus if launcher.deals_devices else len(find_gpus())) else "cpu"
    if not launcher.deals_devices and find_gpus().lacks(device):
        n, none = len(find_gpus()), describe_problem() or "torch sees no CUDA device"
        there = f"cpu, or cuda:0 to cuda:{n - 1}" if n else f"cpu: {none}"
        raise UsageError(f"train.device={device} is not on this machine.\nIt has {there}.")
    if precision == "auto":
        native = device.startswith("cuda") if launcher.deals_devices else computes_bf16(device)
        precision = "bf16" if native else "fp32"
    if precision == "fp16" and not device.startswith("cuda"):
        raise UsageError(f"train.precision=fp16 is for CUDA devices, and the run is on {device}.\nTake fp32 or bf16.")
    return replace(run, train=replace(run.train, device=device, precision=precision))


def note_device(launcher: Launcher, runs: Iterable[Run]) -> list[str]:
    """A line where `auto` means the CPU because torch cannot use the GPUs that are there."""
    asks = not launcher.deals_devices and any(run.train.device == "auto" for run in runs)
    return [f"train.device=auto is the CPU: {problem}"] if asks and (problem := describe_problem()) else []
