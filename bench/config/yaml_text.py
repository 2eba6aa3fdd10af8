"""Paths and words of YAML files as they are written there: `name: 007` and `root: 2024` are names, not numbers."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from bench.config import CONF
from bench.config.plugins import user_folder
from bench.config.ranges import RANGES, Word, is_text
from bench.config.settings import reads

_KEYS = [key for key in RANGES if is_text(key) and not key.startswith("hydra.")]


def reads_text(key: str, choices: Mapping[str, Any]) -> bool:
    """Whether a run of these choices takes the value of a key as text; a user's own choices take what they hold."""
    axis, _, name = key.rpartition(".")
    return is_text(key) and (not axis or reads(axis, choices[axis], name))


def restore_text(config: DictConfig, choices: Mapping[str, Any]) -> None:
    """Puts the text back that YAML has read as a number or as a truth value, where a path or a word belongs."""
    for key in _KEYS:
        axis, _, name = key.rpartition(".")
        node = config.get(axis) if axis else config
        stands = isinstance(node, DictConfig) and name in node and not OmegaConf.is_interpolation(node, name)
        value = node.get(name) if stands else ""
        misread = isinstance(value, bool | int | float) or (value is None and isinstance(RANGES[key], Word))
        if misread and reads_text(key, choices):
            OmegaConf.update(config, key, _as_written(key, value, choices))


def restore_sweep(sweeper: DictConfig, exp: str | None) -> tuple[dict[str, Any], list[Any]]:
    """The parameters and the arms of an experiment's sweep, with the text that YAML has read as something else."""
    params = {str(key): _restore(str(key), value, exp, ("params",)) for key, value in sweeper.params.items()}
    arms = [
        {str(key): _restore(str(key), value, exp, ("arms", i)) for key, value in arm.items()}
        if isinstance(arm, DictConfig)
        else arm
        for i, arm in enumerate(sweeper.get("arms") or ())
    ]
    return params, arms


def _restore(key: str, value: Any, exp: str | None, path: tuple[str | int, ...]) -> Any:
    """A value of a sweep as it is to be typed."""
    if is_text(key) and isinstance(value, bool | int | float):
        value = next(_find_in_exp(exp, ("hydra", "sweeper", *path, key)), value)
    return "null" if value is None else value


def _as_written(key: str, value: Any, choices: Mapping[str, Any]) -> str:
    """The text of a value: of the experiment's file if it has one, else of the choice's, else of conf/config.yaml."""
    axis, _, name = key.rpartition(".")
    of_choice = (_find(file, [name]) for file in _files(f"{axis}/{choices.get(axis)}"))
    of_all = (_find(file, key.split(".")) for file in _files("config"))
    found = chain(_find_in_exp(choices.get("exp"), key.split(".")), of_choice, of_all)
    return next((text for text in found if text is not None), str(value))


def _find_in_exp(exp: str | None, path: Sequence[str | int]) -> Iterator[str]:
    """The scalar at a path of an experiment's file, as text, and of those that it is made from, the nearest first."""
    for file in _files(f"exp/{exp}"):
        if (text := _find(file, path)) is not None:
            yield text
        made_from = (_load(file) or {}).get("defaults") or []
        for other in reversed([each for each in made_from if isinstance(each, str) and each != "_self_"]):
            yield from _find_in_exp(other.removeprefix("/exp/").partition("@")[0], path)


def _files(name: str) -> list[Path]:
    """The config file of a name: the user's own before that of regbench."""
    folders = [folder for folder in (user_folder(), CONF) if folder]
    return [file for folder in folders if (file := folder / f"{name}.yaml").is_file()]


def _find(file: Path, path: Sequence[str | int]) -> str | None:
    """The scalar at a path of a YAML file, as text."""
    node = _load(file)
    for key in path:
        in_list = isinstance(node, list) and isinstance(key, int) and key < len(node)
        node = node[key] if in_list else node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, str) else None


def _load(file: Path) -> Any:
    """What a YAML file holds, each scalar as text."""
    return yaml.load(file.read_bytes(), yaml.BaseLoader)
