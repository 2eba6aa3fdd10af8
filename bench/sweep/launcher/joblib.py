"""A pool of processes on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from bench.sweep.launcher import Launcher, read_whole


@dataclass(frozen=True)
class Joblib(Launcher):
    """n_jobs processes share the runs."""

    name = "joblib"
    plugin = "hydra_plugins.hydra_joblib_launcher"
    in_process = False
    swallows = True  # its pool dies of an exception, and takes the other workers along

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """n_jobs is -1 for as many as there are devices, or cores."""
        jobs = read_whole("n_jobs", settings, lowest=-1)
        return cls(jobs if jobs and jobs > 0 else None)

    def arrange(self, settings: Mapping[str, Any], jobs: int) -> dict[str, Any]:
        """joblib does a single job in this process, to die with what a run dies of: so there are always two."""
        return {**settings, "n_jobs": max(jobs, 2)}
