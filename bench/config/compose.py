"""From a command line to plain typed runs: Hydra composes what is asked for, and we split the sweep and check it."""

import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from bench.config import CONF
from bench.config.arms import Arms
from bench.config.combinations import Combination, combine
from bench.config.identity import identity, shared_key
from bench.config.overrides import SWITCHES, check_arguments, loosen, take_name, to_hydra
from bench.config.ranges import check
from bench.config.session import explaining, own_hydra
from bench.config.settings import Run, read_run
from bench.config.yaml_text import restore_sweep, restore_text
from bench.errors import Unfit, UsageError

# Every choice that conf/ has on an axis, as a sweep takes them: experiments on "all" need not be written anew for one.
# Of these a sweep leaves out what the chosen model has no place for, by its settings. Whether an architecture of
# torchvision's or timm's has stochastic depth only building it shows: such a sweep is refused.
OmegaConf.register_new_resolver(
    "all_of",
    lambda axis: ",".join(sorted((f.stem for f in (CONF / axis).glob("*.yaml")), key=lambda n: (n != "none", n))),
)
OmegaConf.register_new_resolver("folder_name", lambda path: re.sub(r"[^\w.-]+", "_", Path(str(path)).resolve().name))
OmegaConf.register_new_resolver("file_name", lambda path: re.sub(r"[^\w.-]+", "_", Path(str(path)).stem))


class Composed(NamedTuple):
    """What a command line asks for: the experiment, its runs, where and by what launcher they are trained.

    `combinations` are the overrides of each run, `left_out` has a line for each choice of an experiment on all that its
    model has no place for, and `tuned` the settings that each arm has of its own. `config` is all that Hydra composes
    of it but for what is swept: for launching.
    """

    exp: str
    runs: list[Run]
    combinations: list[Combination]
    left_out: tuple[str, ...]
    tuned: tuple[str, ...]
    results: Path
    launcher: str
    launcher_settings: dict[str, Any]
    switches: dict[str, Any]
    config: DictConfig

    @property
    def claim(self) -> Any:
        """What its experiment claims, as plain values; None where it claims nothing. Raises UsageError as composing."""
        with explaining():
            node = self.config.get("claim")
            return None if node is None else OmegaConf.to_container(node, resolve=True)


def compose_command(arguments: Sequence[str]) -> Composed:
    """What a command line asks for.

    Raises:
        UsageError: bad input.
    """
    others, name = take_name(arguments)
    check_arguments(others)
    with explaining(), own_hydra() as context:
        composed = _compose(to_hydra(others), context.config_loader)
    return composed._replace(exp=name or composed.exp)


def _compose(typed: Sequence[str], loader: ConfigLoader) -> Composed:
    """All runs of a sweep, composed and checked one by one."""
    parser = OverridesParser.create(loader)
    overrides = parser.parse_overrides([*typed])
    _check_sweeps(overrides)
    shared = [str(override.input_line) for override in overrides if override.is_hydra_override()]
    task = [override for override in overrides if not override.is_hydra_override()]
    once = [str(override.input_line) for override in task if not override.is_sweep_override()]
    config = hydra.compose("config", [*shared, *once], return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    restore_text(config, choices)
    settings = {key: OmegaConf.select(config, key) for key in ("results_dir", *SWITCHES)}
    if OmegaConf.is_list(settings["evaluation"]):
        settings["evaluation"] = OmegaConf.to_object(settings["evaluation"])
    for key, value in settings.items():
        check(key, key, value)
    of_exp, arms = restore_sweep(config.hydra.sweeper, choices.get("exp"))
    params = parser.parse_overrides([loosen(f"{key}={value}") for key, value in of_exp.items()])
    _check_sweeps(params)
    on_all = "${all_of:" in str(OmegaConf.to_container(config.hydra.sweeper.params, resolve=False))
    on_all &= not any(override.key_or_group == "regularizer" for override in task)
    combinations, runs, left_out = _read_runs(combine(parser, params, arms, task), shared, on_all)
    launcher_settings: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    return Composed(
        exp=(choices.get("exp") or "adhoc").partition("/")[0],  # claims/sam_flat belongs to claims
        runs=runs,
        combinations=combinations,
        left_out=left_out,
        tuned=_read_tuned(config.hydra.sweeper.get("tuned") or (), runs),
        results=Path(settings["results_dir"]),
        launcher=choices["hydra/launcher"],
        launcher_settings=launcher_settings,
        switches={key: settings[key] for key in SWITCHES},
        config=config,
    )


def _check_sweeps(overrides: Iterable[Override]) -> None:
    """Raises UsageError where what all runs share is swept."""
    for override in overrides:
        key = override.key_or_group
        if key == "exp" and (override.is_sweep_override() or isinstance(override.value(), list)):
            raise UsageError(
                "+exp takes one experiment.\nRun one after the other, or combine them in a file of their own."
            )
        if override.is_sweep_override() and (key in ("results_dir", *SWITCHES) or override.is_hydra_override()):
            raise UsageError(f"{key} cannot be swept.\nGive it one value.")


def _read_runs(
    combinations: Sequence[Combination], shared: Sequence[str], on_all: bool
) -> tuple[list[Combination], list[Run], tuple[str, ...]]:
    """The combinations, a checked run of each, and why some are left out.

    Of all regularizers (`on_all`) these are those that the model has no place for.
    """
    parse = functools.cache(OverridesParser.create().parse_override)
    read = functools.cache(Arms(shared).read)  # seeds share an arm
    kept: list[Combination] = []
    runs: list[Run] = []
    left_out: dict[str, None] = {}  # each line once
    for combination in combinations:
        seeds = [override for override in combination if override.startswith("seed=")]
        settings, choices = read(tuple(override for override in combination if override not in seeds))
        seed = {"seed": parse(seeds[-1]).value()} if seeds else {}
        try:
            runs.append(read_run({**settings, **seed}, choices))
            kept.append(combination)
        except Unfit as error:
            if not on_all:
                raise
            left_out[f"left out: {error}".splitlines()[0]] = None
    return kept, runs, tuple(left_out)


def _read_tuned(keys: Any, runs: Sequence[Run]) -> tuple[str, ...]:
    """The settings that each arm of an experiment has of its own; of an optimizer's without the optimizer's name.

    Raises:
        UsageError: no run has such a setting.
    """
    known = {shared_key(key) for run in runs for key in identity(run)}
    for key in keys:
        if key not in known:
            raise UsageError(
                f"hydra.sweeper.tuned holds {key}, which no run has.\n"
                "It lists settings that each arm has of its own, such as optimizer.lr."
            )
    return tuple(keys)
