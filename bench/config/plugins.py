"""A user's own folder: YAML files that join those of conf/, and the Python modules that they name.

`--config-dir DIR` or the environment variable REGBENCH_CONFIG names it: the variable also takes it to other processes.
"""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from bench.config import AXES, CONF
from bench.config.ranges import TAKEN
from bench.config.settings import SLOTS
from bench.errors import UsageError

VARIABLE = "REGBENCH_CONFIG"
_SOURCE = re.compile(r"^# source: (.*)$", re.MULTILINE)
_GROUPS = (*AXES, "train", "exp")
_SLOTS = SLOTS[1:]


def user_folder() -> Path | None:
    """The folder in use, if any."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else None


def use_folder(folder: Path) -> None:
    """Adds a user's folder to what is offered, in this process and in those that it starts.

    Raises:
        UsageError: no such folder, or a file in it that cannot work.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder.\n--config-dir, or {VARIABLE}, is one of {', '.join(_GROUPS)} folders."
        )
    os.environ[VARIABLE] = str(folder.resolve())
    for group in _GROUPS:
        for file in sorted((folder / group).glob("*.y*ml")):
            _check_file(file, group)


def config_files(group: str) -> list[Path]:
    """The YAML files of an axis, or of `exp`: those of conf/, then the user's, each by name."""
    folders = [CONF, user_folder()]
    return [file for folder in folders if folder for file in sorted((folder / group).glob("*.yaml"))]


def first_comment(file: Path) -> str:
    """What a config file says of itself: its first comment that is not for Hydra."""
    comments = (line[1:].strip() for line in file.read_text("utf-8").splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@package")), "")


def read_sources(file: Path) -> list[str]:
    """The papers that a config file names, each on a line `# source: Authors Year, Title, where`."""
    return _SOURCE.findall(file.read_text("utf-8"))


def split_source(source: str) -> tuple[str, str]:
    """A paper's text and its address, empty where it names none."""
    text, _, link = source.partition(", https://")
    return text, f"https://{link}" if link else ""


def _check_file(file: Path, group: str) -> None:
    """Raises UsageError where a file could not work, or would do so other than it says."""
    if file.suffix != ".yaml":
        raise UsageError(f"{file} is not seen by that name.\nRename it to {file.stem}.yaml.")
    if group == "exp" and file.stem.lower() in TAKEN:
        raise UsageError(f"{file}: the results' folder {file.stem} holds no experiment.\nGive the file another name.")
    if (CONF / group / file.name).is_file():
        raise UsageError(f"{file}: there is a {group} {file.stem} already.\nGive the file another name.")
    try:
        text = file.read_text("utf-8")
        values = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from error
    stack, exp = f"{group}.{file.stem}", "_global_"
    package = {"regularizer": stack, "optimizer": stack, "exp": exp}.get(group)
    if package and not re.search(rf"^# *@package +{re.escape(package)}\s*$", text, re.MULTILINE):
        raise UsageError(f"{file} must begin with this line:\n# @package {package}")
    if group in AXES:
        _check_values(file, group, values)


def _check_values(file: Path, axis: str, values: Any) -> None:
    example = "See docs/bring-your-own.md for an example."
    if not isinstance(values, dict):
        raise UsageError(f"{file} must hold key: value lines.\n{example}")
    slots = {"regularizer": _SLOTS, "optimizer": ("optimizer",)}.get(axis)
    if slots and values.get("slot") not in slots:
        raise UsageError(f"{file}: slot={values.get('slot')} is not allowed.\nIt must be one of {', '.join(slots)}.")
    for key in ("sets", "value") if values.get("slot") == "setting" else ("_target_",):
        if key not in values:
            raise UsageError(f"{file} lacks the key {key}.\n{example}")
    if not re.fullmatch(r"(model|optimizer)\.\w+", str(values.get("sets", "model.x"))):
        raise UsageError(f"{file}: sets={values['sets']} is not allowed.\nIt must be like optimizer.weight_decay.")
    if "word" in values and (slots or values["word"] not in values):
        raise UsageError(f"{file}: word={values['word']} is not allowed.\nIt names a key of a dataset or a model.")
