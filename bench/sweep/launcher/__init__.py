"""Where a sweep's runs are trained: what each of Hydra's launchers means for devices, processes and threads.

One file per launcher: <name>.py holds the class, called as the name in capitals (SubmititSlurm), and
conf/hydra/launcher/<name>.yaml its settings.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Self

from bench.config import CONF
from bench.config.settings import Run
from bench.errors import UsageError
from bench.machine.cores import count_cores
from bench.machine.device import find_gpus


@dataclass(frozen=True)
class Launcher:
    """What a launcher's settings ask for; this one, Hydra's `basic`, trains in the process that starts the sweep.

    Attributes:
        name: as in hydra/launcher=NAME.
        plugin: the package that it comes with.
        in_process: whether the process that starts the sweep trains itself.
        shares: whether a few processes on this machine share the runs; else there is a job for each run.
        deals_devices: whether the launcher says what a job may use, maybe on another machine: this one's devices say
            nothing.
        outlives: whether its jobs go on by themselves when the sweep is stopped.
        swallows: whether a worker that is interrupted must end without an exception.
        jobs: processes at a time; None: as many as there are devices, or cores.
        cpus: of a job, where the launcher deals them out.
        gpus: likewise.
    """

    name: ClassVar[str] = "basic"
    plugin: ClassVar[str] = ""
    in_process: ClassVar[bool] = True
    shares: ClassVar[bool] = True
    deals_devices: ClassVar[bool] = False
    outlives: ClassVar[bool] = False
    swallows: ClassVar[bool] = False

    jobs: int | None = None
    cpus: int | None = None
    gpus: float = 0

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """The launcher as its settings in the config describe it.

        Raises:
            UsageError: a value is not allowed.
        """
        return cls()

    def arrange(self, settings: Mapping[str, Any], jobs: int) -> dict[str, Any]:
        """The launcher's settings as its plugin takes them, for so many jobs."""
        return dict(settings)

    def wait_at_stop(self, at_work: Callable[[], bool]) -> None:
        """Waits, when the sweep is to stop, for workers that the end of this process would take along."""

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
        return THIS_PROCESS
    known = sorted(file.stem for file in (CONF / "hydra" / "launcher").glob("*.yaml"))
    if name not in known:
        raise UsageError(f"hydra/launcher={name} is not known to regbench.\nThere are: basic, {', '.join(known)}")
    kind = find_launcher(name)
    if not _is_installed(kind.plugin):
        raise UsageError(f"hydra/launcher={name} is not installed.\nInstall it: pip install 'regbench[launchers]'")
    return kind.read(settings)


def find_launcher(name: str) -> type[Launcher]:
    """The class of a launcher, in the module of its name."""
    module = import_module(f"bench.sweep.launcher.{name}")
    kind: type[Launcher] = getattr(module, "".join(part.title() for part in name.split("_")))
    return kind


def _is_installed(plugin: str) -> bool:
    try:
        return not plugin or find_spec(plugin) is not None
    except ModuleNotFoundError:
        return False


def read_whole(key: str, settings: Mapping[str, Any], lowest: int = 1) -> int | None:
    """A setting that is an integer or null.

    Raises:
        UsageError: it is neither.
    """
    value = settings.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < lowest):
        raise UsageError(describe_refusal(key, value, f"an integer of at least {lowest}, or null"))
    return value


def describe_refusal(key: str, value: Any, allowed: str) -> str:
    """In words for the user."""
    return f"hydra.launcher.{key}={value} is not allowed.\nIt must be {allowed}."
