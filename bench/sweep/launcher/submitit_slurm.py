"""Slurm: a job for each run, on whatever node."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from bench.config.ranges import check
from bench.sweep.launcher import Launcher, read_whole

# What Slurm's commands read, and a user, or a site, sets; all else of these prefixes describes the job it stands in.
_SLURM = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")
_SETTINGS = {f"SLURM_{name}" for name in ("CONF", "CONF_SERVER", "CLUSTERS", "JWT", "DEBUG_FLAGS", "EXIT_ERROR")}


@dataclass(frozen=True)
class SubmititSlurm(Launcher):
    """Jobs that go on by themselves when the sweep is stopped."""

    name = "submitit_slurm"
    plugin = "hydra_plugins.hydra_submitit_launcher"
    in_process = False
    shares = False
    deals_devices = True
    outlives = True
    gpu_keys: ClassVar[tuple[str, ...]] = ("gpus_per_node", "gpus_per_task")

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """array_parallelism jobs at a time, of cpus_per_task threads each."""
        check("hydra.launcher.submitit_folder", "hydra.launcher.submitit_folder", settings["submitit_folder"])
        jobs = read_whole("array_parallelism", settings)
        gpus = sum(read_whole(key, settings, lowest=0) or 0 for key in cls.gpu_keys)
        asks = bool(gpus or "gpu" in str(settings.get("gres")) or settings.get("mem_per_gpu"))
        return cls(jobs, read_whole("cpus_per_task", settings), float(asks))


@contextmanager
def outside_of_slurm() -> Iterator[None]:
    """Within it what is launched inherits nothing of the Slurm job that this process may run in: its memory and cores
    would be those of the jobs that it submits, or contradict them."""
    job = {key: os.environ[key] for key in os.environ if key.startswith(_SLURM) and key not in _SETTINGS}
    for key in job:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(job)
