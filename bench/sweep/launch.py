"""A command, launched: what Hydra composed of it, and how its launcher calls the processes that train."""

import base64
import copy
import functools
import operator
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from bench.config.compose import Composed, compose_command
from bench.config.overrides import only_shows
from bench.config.session import own_hydra, show
from bench.sweep.launcher import read_launcher
from bench.sweep.plan import Command, Planned

if TYPE_CHECKING:  # both import torch, which a plan does without where all is on record
    from bench.sweep.command import Launch
    from bench.sweep.worker import Worker

T = TypeVar("T")

_JOB = "regbench_job"  # a job's own run


def compose(arguments: Sequence[str]) -> Command:
    """What a command line asks for, checked but for what needs the data.

    Raises:
        UsageError: bad input.
    """
    command = with_command(arguments, lambda command, _: command)
    assert command is not None
    return command


def with_command(arguments: Sequence[str], act: Callable[[Command, "Launch"], T]) -> T | None:
    """Calls `act` with what the command line asks for, and with what launches it; what it returns.

    None where Hydra only shows something: --cfg, --info and --help.
    """
    if only_shows(arguments):
        show(arguments)
        return None
    composed = compose_command(arguments)
    launcher = read_launcher(composed.launcher, composed.launcher_settings)
    command = Command(
        composed.exp,
        composed.runs,
        composed.results,
        launcher,
        **composed.switches,
        arguments=tuple(arguments),
        verb="run",
        combinations=composed.combinations,
        tuned=composed.tuned,
        left_out=composed.left_out,
        claim=composed.claim,
    )
    return act(command, functools.partial(_launch, composed))


def _launch(composed: Composed, worker: "Worker", jobs: int) -> dict[str, str]:
    """Has the command's launcher call `worker` with the numbers of so many jobs; returns what they return, together."""
    config = copy.deepcopy(composed.config)
    settings = worker.launcher.arrange(composed.launcher_settings, jobs)
    OmegaConf.update(config, "hydra.launcher", settings, merge=False, force_add=True)
    OmegaConf.update(config, "hydra.sweep", {"dir": ".", "subdir": "."})  # else the launcher makes an empty folder
    overrides: list[list[str]] = [[] for _ in range(jobs)]
    if not worker.launcher.shares:  # a job takes its own run along: with all of them in each, jobs grow as the square
        overrides = [[f"+{_JOB}='{_pack(planned)}'"] for planned in worker.todo]
        worker = replace(worker, todo=())
    job = functools.partial(_run_job, worker)
    with own_hydra() as context:
        launcher = Plugins.instance().instantiate_launcher(context, job, config)
        returned = launcher.launch(overrides, initial_job_idx=0)
    return functools.reduce(operator.or_, (job.return_value for job in returned), {})


def _pack(planned: Planned) -> str:
    return base64.urlsafe_b64encode(pickle.dumps(planned)).decode()


def _run_job(worker: "Worker", config: DictConfig) -> dict[str, str]:
    if _JOB in config:
        worker = replace(worker, todo=[pickle.loads(base64.urlsafe_b64decode(config[_JOB]))])
    return worker(int(HydraConfig.get().job.num))
