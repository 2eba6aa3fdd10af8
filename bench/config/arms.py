"""The arms of a sweep: what Hydra composes of their choices, with the values that were typed for each.

Composing takes Hydra a tenth of a second, so arms that differ in regularizers, optimizers and values alone share one
config, which chooses none of these. Each has a node of its own (`# @package regularizer.sam`), which is put there as
Hydra does it: the values of its file, then those that an experiment's file holds for it.
"""

import copy
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from bench.config import CONF
from bench.config.messages import no_setting
from bench.config.overrides import GROUPS, PLAIN_KEYS, typed_key, unquote
from bench.config.plugins import config_files, user_folder
from bench.config.settings import DESCRIBES
from bench.config.yaml_text import reads_text, restore_text
from bench.errors import UsageError

_STACKS = ("regularizer", "optimizer")  # axes whose choices have a node of their own
_SETS_VALUE = re.compile(rf"\+\+({'|'.join(GROUPS)})\.[\w.]+=")  # an override that chooses nothing


class _Parts(NamedTuple):
    """An arm's overrides: what is composed, the names that it chooses of _STACKS, and what only sets values."""

    composed: tuple[str, ...]
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    values: tuple[str, ...] = ()


class _File(NamedTuple):
    """A config file's own values, not resolved, and what its list of defaults brings along."""

    values: dict[str, Any]
    brings: Sequence[Any] = ()


class Arms:
    """The arms of one command, by their overrides, which are Hydra's less the seed.

    Args:
        shared: Hydra's own settings, which all of them have.
    """

    def __init__(self, shared: Sequence[str]) -> None:
        self.shared = shared
        self.read_file = functools.cache(_read_file)
        self.parse = functools.cache(OverridesParser.create().parse_override)
        self.compose = functools.cache(self._compose)
        self.choose = functools.cache(self._choose)
        self.known = {axis: dict.fromkeys(sorted(file.stem for file in config_files(axis))) for axis in _STACKS}

    def read(self, arm: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
        """An arm's settings, resolved, and the names of its choices.

        Raises:
            UsageError: settings that no file has, or that are missing.
        """
        parts = self._split(arm)
        chosen, choices = self.choose(parts._replace(values=()))
        config = copy.deepcopy(chosen) if parts.values else chosen
        for value in parts.values:  # as Hydra does it, once all is composed
            override = self.parse(value if reads_text(typed_key(value), choices) else unquote(value))
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True, force_add=True)
        settings: Any = OmegaConf.to_container(config, resolve=True)
        settings.setdefault("regularizer", {})
        if not any("slot" in node for node in settings["regularizer"].values()):  # regularizer=[] means none
            settings["regularizer"]["none"] = {"slot": "none"}
        self._check_keys(settings, choices)
        return settings, choices

    def _split(self, arm: tuple[str, ...]) -> _Parts:
        for override in arm:
            parts = re.findall(r"[^\[\],\s]+", override.partition("=")[2]) if re.match(r"\w+=\[", override) else []
            if len(parts) > len(set(parts)):
                raise UsageError(f"{override} names one choice twice.\nName each part of a stack once.")
        if any(override.startswith("~") for override in arm):  # maybe what another one sets, or chooses
            return _Parts(arm)
        names = {
            axis: self._read_names(override) for override in arm if (axis := override.partition("=")[0]) in _STACKS
        }
        stacks = {axis: of_axis for axis, of_axis in names.items() if of_axis is not None}
        values = [override for override in arm if _SETS_VALUE.match(override)]
        rest = [override for override in arm if override not in values and override.partition("=")[0] not in stacks]
        return _Parts(tuple(rest), tuple(stacks.items()), tuple(values))

    def _read_names(self, override: str) -> tuple[str, ...] | None:
        """The names that `axis=...` chooses; None where there is none such, or one brings others along: Hydra sees."""
        axis, value = override.partition("=")[0], self.parse(override).value()
        names = tuple(value) if isinstance(value, list) else (value,)
        known = all(isinstance(name, str) and name in self.known[axis] for name in names)
        return names if known and not any(self.read_file(f"{axis}/{name}").brings for name in names) else None

    def _compose(self, overrides: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any]]:
        """The config less Hydra's part, and the names of its choices."""
        config = hydra.compose("config", [*self.shared, *overrides], return_hydra_config=True)
        choices = dict(config.hydra.runtime.choices)
        config = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("hydra", "claim")])
        own = _find_model(f"exp/{choices.get('exp')}")
        if own not in (None, choices["model"]) and not any(override.startswith("~") for override in overrides):
            config.model = hydra.compose("config", [f"model={choices['model']}"]).model
        restore_text(config, choices)
        return config, choices

    def _choose(self, parts: _Parts) -> tuple[DictConfig, dict[str, Any]]:
        """The config of a combination of choices, and their names."""
        config, choices = self.compose((*parts.composed, *(f"{axis}=[]" for axis, _ in parts.names)))
        config = copy.deepcopy(config)
        for axis, names in parts.names:
            of_exp = config.get(axis) or {}
            for name in names:
                if (own := of_exp.get(name, {})) is not None:  # else the experiment sets it to null
                    node = OmegaConf.merge(self.read_file(f"{axis}/{name}").values, own)
                    OmegaConf.update(config, axis, {name: node}, force_add=True)
        return config, choices

    def _check_keys(self, settings: Mapping[str, Any], choices: Mapping[str, Any]) -> None:
        """Raises UsageError where settings and files differ in keys: Hydra takes any after a plus, or in a file."""
        _check_node("", settings, dict.fromkeys([*PLAIN_KEYS, *GROUPS]), whole=True)
        shared = self.read_file("config").values  # what every dataset and every model has
        for group in ("dataset", "model", "train"):
            known = {**shared.get(group, {}), **self.read_file(f"{group}/{choices[group]}").values}
            _check_node(f"{group}.", settings[group], known, whole=True)
        for group in _STACKS:
            _check_node(f"{group}.", settings[group], self.known[group], whole=False)
            for name, values in settings[group].items():
                chosen = isinstance(values, dict) and "slot" in values
                _check_node(f"{group}.{name}.", values, self.read_file(f"{group}/{name}").values, whole=chosen)


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


def _read_file(name: str) -> _File:
    """A config file's own content; none where there is no such file."""
    for folder in filter(None, (CONF, user_folder())):
        if (file := folder / f"{name}.yaml").is_file():
            content: Any = OmegaConf.to_container(OmegaConf.load(file))
            values = {str(key): content[key] for key in content if key != "defaults"}
            return _File(values, content.get("defaults") or ())
    return _File({})


def _find_model(name: str) -> str | None:
    """The model that an experiment's file chooses, itself or by those that it brings: its `model` is for that one."""
    for each in _read_file(name).brings:
        if isinstance(each, str):
            found = _find_model(each[1:] if each.startswith("/") else f"exp/{each}")
        else:
            found = each.get("override /model")
        if found:
            return str(found)
    return None
