"""Hands a whole sweep to regbench: Hydra looks for plugins in this namespace package only."""

from collections.abc import Callable
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class RegbenchSweeper(Sweeper):
    """Calls the command that Hydra was started with, once, with all that is needed to compose and launch its runs."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what Hydra gives; `task_function` is the command in bench/app.py."""
        self.command: Callable[..., Any] = task_function
        self.context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the command over the experiment's sweep parameters, then the command line's, which override them."""
        params = [f"{key}={value}" for key, value in self.params.items()]
        return self.command(self.config, self.context, [*params, *arguments])
