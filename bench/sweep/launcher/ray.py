"""Ray, started here or a cluster that is there: a task for each run."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from bench.errors import UsageError
from bench.machine.device import find_gpus
from bench.sweep.launcher import Launcher, describe_refusal, read_whole

_HERE = "local"  # Ray's address for one that is started for the sweep
_SECONDS_TO_STOP = 10.0


@dataclass(frozen=True)
class Ray(Launcher):
    """Tasks of num_cpus and num_gpus each, maybe on other machines."""

    name = "ray"
    plugin = "hydra_plugins.hydra_ray_launcher"
    in_process = False
    shares = False
    deals_devices = True

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """Without num_gpus a task has one where Ray is to be started on this machine and it has any."""
        settings = settings["ray"]
        remote = {f"ray.remote.{key}": settings["remote"].get(key) for key in ("num_cpus", "num_gpus")}
        gpus = remote["ray.remote.num_gpus"]
        if gpus is None:
            gpus = float(settings["init"].get("address") == _HERE and len(find_gpus()) > 0)
        if isinstance(gpus, bool) or not isinstance(gpus, int | float) or gpus < 0:
            raise UsageError(describe_refusal("ray.remote.num_gpus", gpus, "a number of at least 0, or null"))
        return cls(cpus=read_whole("ray.remote.num_cpus", remote), gpus=gpus)

    def arrange(self, settings: Mapping[str, Any], jobs: int) -> dict[str, Any]:
        """A cluster that is there has its memory; Ray refuses a setting of it."""
        remote = {**settings["ray"]["remote"], "num_gpus": self.gpus}
        init = dict(settings["ray"]["init"])
        if init.get("address") != _HERE:
            init["object_store_memory"] = None
        return {**settings, "ray": {"init": init, "remote": remote}}

    def wait_at_stop(self, at_work: Callable[[], bool]) -> None:
        """Ray may hold workers elsewhere, which are not waited for: those here get the time that a checkpoint needs."""
        time.sleep(0.5)
        patience = time.monotonic() + _SECONDS_TO_STOP
        while at_work() and time.monotonic() < patience:
            time.sleep(0.1)
