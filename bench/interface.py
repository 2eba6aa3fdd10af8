"""The commands from Python, in a notebook for one: nothing of the caller's is changed by them."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from bench.cli.run import train_and_compare
from bench.config.plugins import use_folder
from bench.errors import UsageError
from bench.machine.switches import read_switches
from bench.record.experiment import Experiment
from bench.rng import global_stream
from bench.sweep.command import Launch
from bench.sweep.launch import with_command
from bench.sweep.plan import Command


def run(
    overrides: Sequence[str | Sequence[str]], settings: Mapping[str, object], config_dir: str | Path | None
) -> Experiment:
    """As `bench.run`."""
    arguments = [text for each in overrides for text in ([each] if isinstance(each, str) else each)]
    arguments += [f"{key}={_to_text(value)}" for key, value in settings.items()]

    def act(command: Command, launch: Launch) -> Experiment:
        code = train_and_compare(command, launch)
        return Experiment.load(command.results, command.exp, finished=code == 0)

    with _kept():
        if config_dir is not None:
            use_folder(Path(config_dir))
        experiment = with_command(arguments, act)
    if experiment is None:
        raise UsageError("bench.run trains; --cfg, --info and --help are the command's: regbench run ...")
    return experiment


def _to_text(value: object) -> str:
    """As it is typed."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def _kept() -> Iterator[None]:
    """Within it generators, threads, torch's switches, signals, loggers and the environment may change."""
    environment, arguments, path = dict(os.environ), sys.argv, [*sys.path]
    threads, frozen = torch.get_num_threads(), gc.get_freeze_count()
    deterministic = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    switches = [*read_switches()]
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    loggers = [(each, each.level, each.disabled, [*each.handlers]) for each in _loggers()]
    device = torch.device("cuda" if torch.cuda.is_initialized() else "cpu")  # type: ignore[no-untyped-call]
    try:
        with global_stream(device, 0, "interface"):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=only_warns)
        for owner, name, value in switches:
            setattr(owner, name, value)
        for each, handler in handlers.items():
            if signal.getsignal(each) is not handler:
                signal.signal(each, handler)
        for logger, level, disabled, of_logger in loggers:
            logger.level, logger.disabled, logger.handlers[:] = level, disabled, of_logger
        if not frozen:
            gc.unfreeze()  # the caller's garbage, too, is frozen between runs
        sys.argv, sys.path[:] = arguments, path
        os.environ.clear()
        os.environ.update(environment)


def _loggers() -> list[logging.Logger]:
    named = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    return [logging.root, *named]
