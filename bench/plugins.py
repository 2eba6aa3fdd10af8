"""A user's own folder: YAML files that join those of conf/, and the Python modules that they name.

`--config-dir DIR` or the environment variable REGBENCH_CONFIG names it: the variable also takes it to other processes.
"""

import os
import pkgutil
import re
import sys
from functools import cache
from hashlib import sha256
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import yaml

from bench import AXES, CONF, UsageError

VARIABLE = "REGBENCH_CONFIG"
_GROUPS = (*AXES, "train", "exp")
_SLOTS = ("mixing", "loss", "gradient", "setting")
_PUBLISHED = {"bench", "torch", "torchvision", "timm"}  # whose classes are told apart by their version


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
            f"{folder} (--config-dir or {VARIABLE}) is not a folder.\nIt is one that holds {', '.join(_GROUPS)}"
        )
    os.environ[VARIABLE] = str(folder.resolve())
    for group in _GROUPS:
        for file in sorted((folder / group).glob("*.yaml")):
            _check_file(file, group)


def config_files(group: str) -> list[Path]:
    """The YAML files of an axis, or of `exp`: those of conf/, then the user's, each by name."""
    folders = [CONF, user_folder()]
    return [file for folder in folders if folder for file in sorted((folder / group).glob("*.yaml"))]


def resolve(target: str) -> Any:
    """The class or function that a config names, also where its module is in the user's folder.

    Raises:
        ImportError, AttributeError: there is none of that name.
    """
    folder = os.environ.get(VARIABLE)
    if folder and folder not in sys.path:
        sys.path.append(folder)  # the last, so that no file of the user's takes a library's place
    return pkgutil.resolve_name(target)


@cache
def source_fingerprint(target: str) -> str | None:
    """A hash of the module that holds a user's own class, and of the user's modules that it imports.

    None for what is published. Modules that are found at run time only, and installed ones that a user's module
    imports, are not seen.
    """
    module = sys.modules[getattr(resolve(target), "__module__", target.partition(":")[0].partition(".")[0])]
    if module.__name__.partition(".")[0] in _PUBLISHED or not getattr(module, "__file__", None):
        return None
    files, folder = [Path(str(module.__file__))], user_folder()
    if folder and files[0].is_relative_to(folder):
        finder = ModuleFinder([str(folder)])
        finder.run_script(str(files[0]))
        files += [Path(found.__file__) for found in finder.modules.values() if found.__file__]  # type: ignore[attr-defined]
    return sha256(b"\0".join(sorted({file.read_bytes() for file in files}))).hexdigest()[:12]


def _check_file(file: Path, group: str) -> None:
    if (CONF / group / file.name).is_file():
        raise UsageError(f"{file}: there is a {group} {file.stem} already.\nGive the file another name.")
    text = file.read_text()
    stack, exp = f"{group}.{file.stem}", "_global_"
    package = {"regularizer": stack, "optimizer": stack, "exp": exp}.get(group)
    if package and not re.search(rf"^# *@package +{re.escape(package)}\s*$", text, re.MULTILINE):
        raise UsageError(f"{file} must begin with this line:\n# @package {package}")
    if group not in AXES:
        return
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{file} must hold key: value lines.\nSee README for an example.")
    slots = {"regularizer": _SLOTS, "optimizer": ("optimizer",)}.get(group)
    if slots and values.get("slot") not in slots:
        raise UsageError(f"{file}: slot={values.get('slot')} is not allowed.\nIt must be one of {', '.join(slots)}.")
    for key in ("sets", "value") if values.get("slot") == "setting" else ("_target_",):
        if key not in values:
            raise UsageError(f"{file} lacks the key {key}.\nSee README for an example.")
