"""Processes of their own on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.sweep.launcher.submitit_slurm import SubmititSlurm


@dataclass(frozen=True)
class SubmititLocal(SubmititSlurm):
    """array_parallelism processes share the runs, and this machine's devices."""

    name = "submitit_local"
    shares = True
    deals_devices = False
    outlives = False
    gpu_keys = ("gpus_per_node",)

    def arrange(self, settings: Mapping[str, Any], jobs: int) -> dict[str, Any]:
        """submitit starts all jobs at once: there are only as many as may work at a time."""
        return {key: value for key, value in settings.items() if key != "array_parallelism"}
