"""Where a sweep's runs are trained: what Hydra's launchers mean for devices, processes and threads."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from bench.config.ranges import check
from bench.config.settings import Run
from bench.errors import UsageError
from bench.machine.cores import count_cores
from bench.machine.device import find_gpus

_PLUGINS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
}
# What Slurm's commands read, and a user, or a site, sets; all else of these prefixes describes the job it stands in.
_SLURM = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")
_SLURM_SETTINGS = {f"SLURM_{name}" for name in ("CONF", "CONF_SERVER", "CLUSTERS", "JWT", "DEBUG_FLAGS", "EXIT_ERROR")}
_HERE = "local"  # Ray's address for one that is started for the sweep


@dataclass(frozen=True)
class Launcher:
    """A launcher's name, and what its settings ask for."""

    name: str = "basic"
    jobs: int | None = None  # processes at a time; None: as many as there are devices, or cores
    cpus: int | None = None  # of a job, where the launcher deals them out
    gpus: float = 0  # likewise

    @property
    def in_process(self) -> bool:
        """Whether the process that starts the sweep trains itself."""
        return self.name == "basic"

    @property
    def shares(self) -> bool:
        """Whether a few processes on this machine share the runs; else there is a job for each run."""
        return self.name in ("basic", "joblib", "submitit_local")

    @property
    def deals_devices(self) -> bool:
        """Whether the launcher says what a job may use, maybe on another machine: this one's devices say nothing."""
        return self.name in ("submitit_slurm", "ray")

    def count_jobs(self, runs: Sequence[Run]) -> int:
        """How many jobs to launch for these runs."""
        return min(len(runs), self.count_workers(runs)) if self.shares else len(runs)

    def count_workers(self, runs: Sequence[Run]) -> int:
        """Trainings at a time on this machine, as far as that is known here.

        It does not depend on how many runs there are: that a few are left must not change their threads.
        """
        if self.in_process or not self.shares:
            return 1
        on_gpus = any(run.train.device.startswith("cuda") for run in runs)
        return self.jobs or (max(len(find_gpus()), 1) if on_gpus else count_cores())

    def count_threads(self, runs: Sequence[Run]) -> int | None:
        """Threads for each job, so that cores are not oversubscribed; None: what torch takes by itself."""
        if self.in_process or not self.shares:
            return self.cpus
        return self.cpus or max(count_cores() // self.count_workers(runs), 1)


THIS_PROCESS = Launcher()


def read_launcher(name: str, settings: Mapping[str, Any]) -> Launcher:
    """A launcher of conf/hydra/launcher/ as the command line sets it.

    Raises:
        UsageError: it is not installed, or one of its values is not allowed.
    """
    if name == "basic":
        return Launcher()
    if name not in _PLUGINS:
        raise UsageError(f"hydra/launcher={name} is not known to regbench.\nThere are: basic, {', '.join(_PLUGINS)}")
    if not _is_installed(_PLUGINS[name]):
        raise UsageError(f"hydra/launcher={name} is not installed.\nInstall it: pip install 'regbench[launchers]'")
    if name == "joblib":
        jobs = _whole("n_jobs", settings, lowest=-1)
        return Launcher(name, jobs if jobs and jobs > 0 else None)
    if name == "ray":
        return _read_ray(settings["ray"])
    check("hydra.launcher.submitit_folder", "hydra.launcher.submitit_folder", settings["submitit_folder"])
    jobs = _whole("array_parallelism", settings)
    keys = ("gpus_per_node", "gpus_per_task") if name == "submitit_slurm" else ("gpus_per_node",)
    gpus = sum(_whole(key, settings, lowest=0) or 0 for key in keys)
    asks = bool(gpus or "gpu" in str(settings.get("gres")) or settings.get("mem_per_gpu"))
    return Launcher(name, jobs, _whole("cpus_per_task", settings), float(asks))


def _read_ray(settings: Mapping[str, Any]) -> Launcher:
    remote = {f"ray.remote.{key}": settings["remote"].get(key) for key in ("num_cpus", "num_gpus")}
    gpus = remote["ray.remote.num_gpus"]
    if gpus is None:  # this machine's, if Ray is to be started on it
        gpus = float(settings["init"].get("address") == _HERE and len(find_gpus()) > 0)
    if isinstance(gpus, bool) or not isinstance(gpus, int | float) or gpus < 0:
        raise UsageError(_not_allowed("ray.remote.num_gpus", gpus, "a number of at least 0, or null"))
    return Launcher("ray", cpus=_whole("ray.remote.num_cpus", remote), gpus=gpus)


def arrange(launcher: Launcher, settings: Mapping[str, Any], jobs: int) -> dict[str, Any]:
    """The launcher's settings as its plugin wants them, for so many jobs."""
    arranged = dict(settings)
    if launcher.name == "joblib":  # which does a single one in this process, to die with what a run dies of
        arranged["n_jobs"] = max(jobs, 2)
    if launcher.name == "submitit_local":  # which starts all jobs at once: so there are only as many
        del arranged["array_parallelism"]
    if launcher.name == "ray":
        remote = {**settings["ray"]["remote"], "num_gpus": launcher.gpus}
        init = dict(settings["ray"]["init"])
        if init.get("address") != _HERE:  # a cluster that is there has its memory; Ray refuses to be told
            init["object_store_memory"] = None
        arranged["ray"] = {"init": init, "remote": remote}
    return arranged


@contextmanager
def outside_of_slurm() -> Iterator[None]:
    """Within it what is launched inherits nothing of the Slurm job that this process may run in: its memory and cores
    would be those of the jobs that it submits, or contradict them."""
    job = {key: os.environ[key] for key in os.environ if key.startswith(_SLURM) and key not in _SLURM_SETTINGS}
    for key in job:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(job)


def _is_installed(plugin: str) -> bool:
    try:
        return find_spec(plugin) is not None
    except ModuleNotFoundError:
        return False


def _whole(key: str, settings: Mapping[str, Any], lowest: int = 1) -> int | None:
    value = settings.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < lowest):
        raise UsageError(_not_allowed(key, value, f"an integer of at least {lowest}, or null"))
    return value


def _not_allowed(key: str, value: Any, allowed: str) -> str:
    return f"hydra.launcher.{key}={value} is not allowed.\nIt must be {allowed}."
