"""Devices: which GPUs can be used here, which of them a process takes, and whether one still answers.

What is asked here makes no CUDA context: the process that only plans and watches a sweep takes nothing of a card.
"""

import os
import platform
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from bench.machine.cores import count_cores

_VISIBLE = "CUDA_VISIBLE_DEVICES"


class DeviceLost(Exception):
    """A CUDA device answers no more in this process, which must end; others, and a new one, have it."""


@dataclass(frozen=True)
class Gpus:
    """The GPUs that torch can use: of each the compute capability; or what keeps it from using those that are there."""

    capabilities: tuple[tuple[int, int], ...] = ()
    problem: str = ""

    def __len__(self) -> int:
        return len(self.capabilities)

    def lacks(self, device: str) -> bool:
        """Whether `device`, as in train.device, is a GPU that is not among them."""
        return device.startswith("cuda") and (torch.device(device).index or 0) >= len(self)


@cache
def find_gpus() -> Gpus:
    """Asks the driver once in a process: NVML may count cards of which no process can take one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if torch.cuda.is_available():
                return Gpus(tuple(torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())))
            problem = str(caught[0].message) if caught and torch.cuda.device_count() else ""
        except (RuntimeError, AssertionError) as error:
            problem = str(error)
    return Gpus(problem=(problem.strip().splitlines() or [""])[0])


def describe_problem() -> str:
    """A line on GPUs that are there and cannot be used, and how that is mended; empty where there are none."""
    problem = find_gpus().problem
    mend = "see that nvidia-smi works, and take a torch for that driver's CUDA (pytorch.org)"
    return f"there are GPUs, and torch cannot use them: {problem.rstrip('.')[:200]}; {mend}" if problem else ""


def computes_bf16(device: str) -> bool:
    """Whether a device computes in bf16 itself.

    A GPU by its compute capability (8.0, Ampere; all that ROCm takes), a CPU by the kernel's list: AVX-512 or AMX on
    x86, bf16 on ARM.
    """
    if device == "cpu":
        return not _cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
    return torch.version.hip is not None or find_gpus().capabilities[torch.device(device).index or 0] >= (8, 0)


@cache
def _cpu_flags() -> frozenset[str]:
    """What the processor can do; nothing is known where the kernel does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split())


def describe_hardware(device: str) -> str:
    """A short description of what trains, without the host's name."""
    if device.startswith("cuda") and not find_gpus().lacks(device):
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {count_cores()} cores"


def is_lost(device: torch.device) -> bool:
    """Whether a device answers no more in this process, as after an illegal access or a failed assert on it."""
    if device.type != "cuda" or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def visible() -> str | None:
    """Which cards the user lets processes see (CUDA_VISIBLE_DEVICES); None: all."""
    return os.environ.get(_VISIBLE)


def see(cards: str | None, number: int) -> None:
    """Has this process see those; launchers have lists of their own. Before CUDA is asked for anything.

    Args:
        cards: as `visible` gave them; of several MIG instances a process can use one alone.
        number: of the job, which says which.
    """
    if cards and "MIG-" in cards:
        instances = cards.split(",")
        cards = instances[number % len(instances)]
    if cards is None:
        os.environ.pop(_VISIBLE, None)
    else:
        os.environ[_VISIBLE] = cards
