"""From a command line to plain typed runs: Hydra composes what is asked for, and we split the sweep and check it."""

import functools
import itertools
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
from bench.config.overrides import SWITCHES, check_arguments, loosen, take_name, to_hydra
from bench.config.ranges import check
from bench.config.session import explaining, own_hydra
from bench.config.settings import Run, read_run
from bench.config.yaml_text import restore_text
from bench.errors import UsageError

# Every choice that conf/ has on an axis, as a sweep takes them: experiments on "all" need not be written anew for one.
OmegaConf.register_new_resolver(
    "all_of",
    lambda axis: ",".join(sorted((f.stem for f in (CONF / axis).glob("*.yaml")), key=lambda n: (n != "none", n))),
)
OmegaConf.register_new_resolver("folder_name", lambda path: re.sub(r"[^\w.-]+", "_", Path(str(path)).resolve().name))


class Composed(NamedTuple):
    """What a command line asks for: the experiment, its runs, where and by what launcher they are trained.

    `config` is all that Hydra composes of it but for what is swept: for launching.
    """

    exp: str
    runs: list[Run]
    results: Path
    launcher: str
    launcher_settings: dict[str, Any]
    switches: dict[str, bool]
    config: DictConfig

    @property
    def claim(self) -> Any:
        """What its experiment claims, as plain values; None where it claims nothing."""
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
    for key, value in settings.items():
        check(key, key, value)
    params = parser.parse_overrides([loosen(f"{key}={value}") for key, value in config.hydra.sweeper.params.items()])
    _check_sweeps(params)
    launcher_settings: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    return Composed(
        exp=(choices.get("exp") or "adhoc").partition("/")[0],  # claims/sam_flat belongs to claims
        runs=_read_runs(_combine([*params, *task]), shared),
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


def _combine(overrides: Iterable[Override]) -> list[tuple[str, ...]]:
    """Every combination of what is swept, as Hydra's overrides; of two that have one key the last counts."""
    values = {}
    for override in overrides:
        key = override.get_key_element()
        swept = override.is_sweep_override()
        of_key = override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
        values[key] = [loosen(f"{key}={value}") for value in of_key]  # again, for what a range() gives
    return list(itertools.product(*values.values()))


def _read_runs(combinations: Sequence[tuple[str, ...]], shared: Sequence[str]) -> list[Run]:
    """A checked run of each combination."""
    parse = functools.cache(OverridesParser.create().parse_override)
    read = functools.cache(Arms(shared).read)  # seeds share an arm
    runs = []
    for combination in combinations:
        seeds = [override for override in combination if override.startswith("seed=")]
        settings, choices = read(tuple(override for override in combination if override not in seeds))
        seed = {"seed": parse(seeds[-1]).value()} if seeds else {}
        runs.append(read_run({**settings, **seed}, choices))
    return runs
