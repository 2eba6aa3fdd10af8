"""Paths and words of YAML files as they are written there: `name: 007` and `root: 2024` are names, not numbers."""

from collections.abc import Mapping
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


def _as_written(key: str, value: Any, choices: Mapping[str, Any]) -> str:
    """The text of a value: of the experiment's file if it has one, else of the choice's, else of conf/config.yaml."""
    axis, _, name = key.rpartition(".")
    places = [("exp", choices.get("exp"), key), (axis, choices.get(axis), name), ("", "config", key)]
    for group, file, path in places:
        for folder in filter(None, (user_folder(), CONF)):
            text = _find(folder / group / f"{file}.yaml", path)
            if text is not None:
                return text
    return str(value)


def _find(file: Path, path: str) -> str | None:
    """The scalar at a path of a YAML file, as text."""
    node: Any = yaml.load(file.read_bytes(), yaml.BaseLoader) if file.is_file() else None
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, str) else None
