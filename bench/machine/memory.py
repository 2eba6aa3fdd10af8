"""What a run takes of the memory, and that the next run in the process finds it free."""

import gc
import re
from contextlib import suppress
from pathlib import Path

import torch

from bench.machine.exit import end_quickly

# The CPU's allocator; CUDA's and ROCm's runtime; their libraries, such as cuBLAS and cuDNN, which on a full card finds
# none of its plans to fit; compiled kernels.
_NO_MEMORY = re.compile(
    "can't allocate memory|error: out of memory|_ALLOC(ATION)?_FAILED|unable to find an engine to execute|"
    r"Triton Error \[CUDA\]: out of memory"
)
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak(device: torch.device) -> None:
    """Forgets the peak so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            _RESET.write_text("5", "utf-8")


def read_used(device: torch.device) -> float | None:
    """MiB in use now, of what `read_peak` counts."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    return _read_status("VmRSS:")


def read_peak(device: torch.device) -> float | None:
    """MiB at the peak since `reset_peak`: of tensors on a GPU, or of this whole process on the CPU (Linux only)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return _read_status("VmHWM:")


def _read_status(key: str) -> float | None:
    with suppress(OSError):
        for line in _STATUS.read_text("utf-8", "replace").splitlines():
            if line.startswith(key):
                return int(line.split()[1]) / 2**10
    return None


def release() -> None:
    """Gives back what nothing refers to any more; never raises."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with suppress(RuntimeError):  # of a device that answers no more
            torch.cuda.empty_cache()


def release_and_settle() -> None:
    """Releases, and takes what is left for what stays: the next time looks at it no more.

    To look at all that was imported, some of it by the first run, takes 0.1 s. What is left and becomes part of a cycle
    that nothing refers to is never given back; so this is for between runs, when nothing of a run is left.
    """
    release()
    gc.freeze()
    end_quickly()  # a worker of a pool has no other end


def ran_out(error: BaseException) -> bool:
    """Whether an error says that the device, or the machine, has no memory left."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None)
