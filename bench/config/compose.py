"""Hydra: composes a command line into plain typed runs. What launches them sees a DictConfig, too."""

import copy
import functools
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import hydra
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.config import CONF
from bench.config.messages import explain_hydra_error, no_setting
from bench.config.overrides import (
    GROUPS,
    PLAIN_KEYS,
    SWITCHES,
    hydra_arguments,
    loosen,
    take_name,
    typed_key,
    unquote,
)
from bench.config.plugins import user_folder
from bench.config.ranges import check
from bench.config.settings import DESCRIBES, Run, read_run
from bench.config.yaml_text import reads_text, restore_text
from bench.errors import UsageError

T = TypeVar("T")

_Config = tuple[DictConfig, dict[str, Any]]
Choose = Callable[[tuple[str, ...]], _Config]
_STACK = re.compile(r"(regularizer|optimizer)=(\w+|\[\w+(?:,\w+)*\])")  # an override that chooses on these axes
_SETS_VALUE = re.compile(rf"\+\+({'|'.join(GROUPS)})\.[\w.]+=")  # an override that chooses nothing
# Every choice that conf/ has on an axis, as a sweep takes them: experiments on "all" need not be written anew for one.
OmegaConf.register_new_resolver(
    "all_of",
    lambda axis: ",".join(sorted((f.stem for f in (CONF / axis).glob("*.yaml")), key=lambda n: (n != "none", n))),
)
OmegaConf.register_new_resolver("folder_name", lambda path: re.sub(r"[^\w.-]+", "_", Path(str(path)).resolve().name))


class Composed(NamedTuple):
    """What a command line asks for: the experiment, its runs, where and by what launcher they are trained."""

    exp: str
    runs: list[Run]
    results: Path
    launcher: str
    launcher_settings: dict[str, Any]
    switches: dict[str, bool]


def with_composed(arguments: Sequence[str], act: Callable[[Composed, DictConfig, HydraContext], T]) -> T | None:
    """Calls `act` with what the command line asks for, and with what its launcher needs; what it returns.

    None where Hydra answers by itself: --cfg, --info and --help.

    Raises:
        UsageError: bad input.
    """
    outcome: list[T] = []
    others, name = take_name(arguments)

    def command(config: DictConfig, context: HydraContext, sweep: Sequence[str]) -> None:
        composed = _compose(config, context, sweep)
        outcome.append(act(composed._replace(exp=name or composed.exp), config, context))

    _start_hydra(command, others)
    return outcome[0] if outcome else None


def _start_hydra(command: Callable[..., None], arguments: Sequence[str]) -> None:
    """Lets Hydra compose the command line and call `command` through our sweeper; its errors are told our way."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions reach us, instead of a print and an exit
    _use_own_launcher_files()
    folder = user_folder()
    sys.argv = ["regbench run", *(["--config-dir", str(folder)] if folder else []), *hydra_arguments(arguments)]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(command)()
    except OverrideParseException as error:
        raise UsageError(
            f"cannot read {error.override.lstrip('+')}\n"
            "An override is key=value; quote a value with special characters twice: 'key=\"a, b\"'. ~ is not expanded."
        ) from error
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UsageError(explain_hydra_error(error)) from error


def _use_own_launcher_files() -> None:
    """Has conf/hydra/launcher/ replace the plugins' nodes of the same names, which Hydra would merge with them."""
    Plugins.instance()  # now the plugins have stored them
    stored = ConfigStore.instance().repo["hydra"]["launcher"]
    for file in (CONF / "hydra" / "launcher").glob("*.yaml"):
        stored.pop(file.name, None)


def _compose(config: DictConfig, context: HydraContext, sweep: Sequence[str]) -> Composed:
    """All runs of a sweep, composed and checked one by one."""
    loader = context.config_loader
    exp = OmegaConf.select(config, "hydra.runtime.choices.exp") or "adhoc"
    if not isinstance(exp, str) or any(re.match(r"\+?exp=.*,", override) for override in sweep):
        raise UsageError("+exp takes one experiment.\nRun one after the other, or combine them in a file of their own.")
    overrides = OverridesParser.create(loader).parse_overrides([loosen(override) for override in sweep])
    combinations = BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]
    restore_text(config, dict(config.hydra.runtime.choices))
    settings = {key: OmegaConf.select(config, key) for key in ("results_dir", *SWITCHES)}
    for key, value in settings.items():
        if any(override.get_key_element() == key and override.is_sweep_override() for override in overrides):
            raise UsageError(f"{key} cannot be swept.\nGive it one value.")
        check(key, key, value)
    by_hydra = functools.cache(functools.partial(_compose_by_hydra, config, loader))
    choose = functools.cache(functools.partial(_compose_choices, by_hydra, loader))
    composer = functools.cache(functools.partial(_compose_arm, loader, choose))
    loosened = [[loosen(override) for override in each] for each in combinations]  # what Hydra's range() gives
    runs = [_read(*composer(tuple(o for o in each if not o.startswith("seed="))), each) for each in loosened]
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    switches = {key: settings[key] for key in SWITCHES}
    return Composed(exp, runs, Path(settings["results_dir"]), launcher, _launcher_settings(config), switches)


def _launcher_settings(config: DictConfig) -> dict[str, Any]:
    settings = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def _compose_choices(by_hydra: Choose, loader: ConfigLoader, overrides: tuple[str, ...]) -> _Config:
    """The config of a combination of choices, and their names.

    Composing takes Hydra a tenth of a second, so stacks and optimizers, whose files fill a node of their own each, are
    put in place here: their file's values, then what the experiment has for them. All else is Hydra's.
    """
    chosen = [(match[1], re.findall(r"\w+", match[2])) for each in overrides if (match := _STACK.fullmatch(each))]
    axes = dict(chosen)
    plain = all(
        name in _options(loader, axis) and "defaults" not in _file(loader, f"{axis}/{name}")
        for axis, names in chosen
        for name in names
    )
    if not plain or len(axes) < len(chosen) or any(override.startswith("~") for override in overrides):
        return by_hydra(overrides)
    others = tuple(override for override in overrides if not _STACK.fullmatch(override))
    base, choices = by_hydra((*others, *(f"{axis}=[]" for axis in axes)))
    composed, choices = copy.deepcopy(base), dict(choices)
    for axis, names in axes.items():
        for name in names:
            own = OmegaConf.select(composed, f"{axis}.{name}", default={})
            node = OmegaConf.merge(_file(loader, f"{axis}/{name}"), own)
            OmegaConf.update(composed, f"{axis}.{name}", node, merge=False, force_add=True)
        if len(names) == 1:
            choices[axis] = names[0]
    return composed, choices


def _compose_by_hydra(config: DictConfig, loader: ConfigLoader, overrides: tuple[str, ...]) -> _Config:
    """The config of overrides, and the names of the choices."""
    composed = loader.load_sweep_config(config, list(overrides))
    choices = dict(composed.hydra.runtime.choices)
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]), choices


def _compose_arm(
    loader: ConfigLoader, choose: Choose, overrides: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """An arm's settings and the names of its choices.

    Composing takes Hydra longer than a small epoch, so arms of the same choices share it, and seeds share an arm.
    """
    for override in overrides:
        parts = re.findall(r"[^\[\],\s]+", override.partition("=")[2]) if re.match(r"\w+=\[", override) else []
        if len(parts) > len(set(parts)):
            raise UsageError(f"{override} names one choice twice.\nName each part of a stack once.")
    takes_out = any(override.startswith("~") for override in overrides)  # maybe what another one sets
    values = [] if takes_out else [override for override in overrides if _SETS_VALUE.match(override)]
    composed, choices = choose(tuple(override for override in overrides if override not in values))
    arm = copy.deepcopy(composed)
    values = [value if reads_text(typed_key(value), choices) else unquote(value) for value in values]
    for value in OverridesParser.create(loader).parse_overrides(values):  # as Hydra does it, once all is composed
        OmegaConf.update(arm, value.key_or_group, value.value(), merge=True, force_add=True)
    restore_text(arm, choices)
    settings = _plain(arm)
    settings.setdefault("regularizer", {})
    if not any("slot" in node for node in settings["regularizer"].values()):  # regularizer=[] means none
        settings["regularizer"]["none"] = {"slot": "none"}
    _check_keys(settings, choices, loader)
    return settings, choices


def _read(settings: Mapping[str, Any], choices: Mapping[str, str], overrides: Sequence[str]) -> Run:
    seeds = [override for override in overrides if override.startswith("seed=")]
    seed = {"seed": OverridesParser.create().parse_override(seeds[-1]).value()} if seeds else {}
    return read_run({**settings, **seed}, choices)


def _plain(config: DictConfig) -> dict[str, Any]:
    """The config without Hydra's part, resolved, as a plain dictionary."""
    keys = [str(key) for key in config if key != "hydra"]
    plain = OmegaConf.to_container(OmegaConf.masked_copy(config, keys), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _check_keys(settings: Mapping[str, Any], choices: Mapping[str, Any], loader: ConfigLoader) -> None:
    """Raises UsageError where settings and files differ in keys: Hydra takes any after a plus, or in a file."""
    _check_node("", settings, dict.fromkeys([*PLAIN_KEYS, *GROUPS]), whole=True)
    shared = _file(loader, "config")  # what every dataset and every model has
    for group in ("dataset", "model", "train"):
        known = {**shared.get(group, {}), **_file(loader, f"{group}/{choices[group]}")}
        _check_node(f"{group}.", settings[group], known, whole=True)
    for group in ("regularizer", "optimizer"):
        _check_node(f"{group}.", settings[group], dict.fromkeys(_options(loader, group)), whole=False)
        for name, values in settings[group].items():
            chosen = isinstance(values, dict) and "slot" in values
            _check_node(f"{group}.{name}.", values, _file(loader, f"{group}/{name}"), whole=chosen)


def _check_node(path: str, values: Any, file: Mapping[str, Any], whole: bool) -> None:
    if not isinstance(values, dict):
        raise UsageError(f"{path.rstrip('.')}={values} is not a choice.\nSet one of: {', '.join(file)}")
    for key in values:
        if key not in file:
            raise UsageError(no_setting(f"{path}{key}", path.rstrip(".") or "the config", file))
        if key in DESCRIBES and values[key] != file[key]:
            raise UsageError(f"{path}{key} cannot be changed.\nIt says what the choice is; choose another instead.")
    for key in file:
        if whole and key not in values:
            raise UsageError(f"{path}{key} was taken out.\nEvery run needs it: give it a value instead.")


@functools.cache
def _options(loader: ConfigLoader, group: str) -> list[str]:
    """The choices of a group: Hydra looks into every folder of its search path."""
    return loader.get_group_options(group)


@functools.cache
def _file(loader: ConfigLoader, name: str) -> dict[str, Any]:
    """A config file's own content, as a plain dictionary that is not resolved."""
    content = OmegaConf.to_container(loader.repository.load_config(name).config)  # type: ignore[attr-defined]
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}
