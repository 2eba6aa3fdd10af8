"""A user's own folder: YAML files that join those of conf/, and the Python modules that they name.

`--config-dir DIR` or the environment variable REGBENCH_CONFIG names it: the variable also takes it to other processes.
"""

import ast
import os
import pkgutil
import re
import sys
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from bench import AXES, CONF
from bench.config.ranges import TAKEN
from bench.errors import UsageError

VARIABLE = "REGBENCH_CONFIG"
_GROUPS = (*AXES, "train", "exp")
_SLOTS = ("mixing", "loss", "gradient", "setting")
_PUBLISHED = {"bench", "torch", "torchvision", "timm"}  # whose source is no part of a run's identity


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


def is_published(name: str) -> bool:
    """Whether a module, or what it holds, is regbench's own or a library's that its choices name."""
    return name.partition(".")[0] in _PUBLISHED


def config_files(group: str) -> list[Path]:
    """The YAML files of an axis, or of `exp`: those of conf/, then the user's, each by name."""
    folders = [CONF, user_folder()]
    return [file for folder in folders if folder for file in sorted((folder / group).glob("*.yaml"))]


def first_comment(file: Path) -> str:
    """What a config file says of itself: its first comment that is not for Hydra."""
    comments = (line[1:].strip() for line in file.read_text("utf-8").splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@package")), "")


def resolve(target: str) -> Any:
    """The class or function that a config names, also where its module is in the user's folder.

    Raises:
        ImportError, AttributeError: there is none of that name.
        UsageError: the user's module has the name of a library's, which Python takes.
    """
    folder = os.environ.get(VARIABLE)
    if folder and folder not in sys.path:
        sys.path.append(folder)  # the last, so that no file of the user's takes a library's place
    try:
        found = _import(target)
    except (ImportError, AttributeError):
        _check_name(target)
        raise
    if not is_published(target):
        _check_name(target)
    return found


def _import(target: str) -> Any:
    import torch  # which not every command needs

    from bench.rng import global_stream

    with global_stream(torch.device("cpu"), 0, "import"):  # a module may draw where it is imported
        return pkgutil.resolve_name(target)


def _check_name(target: str) -> None:
    """Raises UsageError where the user's folder holds the target's module, and Python takes another one."""
    folder, name = user_folder(), re.split("[.:]", target)[0]
    file, spec = _find_module(folder, name) if folder else None, PathFinder.find_spec(name)
    if file and (name in sys.stdlib_module_names or (spec and Path(spec.origin or "").resolve() != file.resolve())):
        raise UsageError(
            f"{file} is not seen: Python has a module {name} of its own, or of a library's.\n"
            f"Give the file another name, and write it in the _target_, here {target}."
        )


@cache
def source_fingerprint(target: str) -> str | None:
    """A hash of the module that a target names, and of the modules of the user's folder that it imports.

    None for what is published. Modules that are imported by a computed name, and those that an installed module
    imports, are not seen.
    """
    if is_published(target):  # also where a file of the user's has such a library's name, which is not seen
        return None
    folder, names = user_folder(), _with_parents(target.replace(":", "."))
    files = _imported_files(folder, names) if folder else set()
    if not files:
        resolve(target)  # now its module is loaded
        loaded = [sys.modules[name] for name in names if name in sys.modules]
        files = {Path(module.__file__) for module in loaded[-1:] if module.__file__}
    return sha256(b"\0".join(file.read_bytes() for file in sorted(files))).hexdigest()[:12] if files else None


def _imported_files(folder: Path, names: Sequence[str]) -> set[Path]:
    """The files of the folder that the modules `names` are, and that their import statements name in turn."""
    files: set[Path] = set()
    left = list(names)
    while left:
        name = left.pop()
        file = _find_module(folder, name)
        if file is None or file in files:
            continue
        files.add(file)
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
            if isinstance(node, ast.Import):
                left += [parent for alias in node.names for parent in _with_parents(alias.name)]
            if isinstance(node, ast.ImportFrom):
                base = resolve_name("." * node.level + (node.module or ""), package or None)
                left += [parent for alias in node.names for parent in _with_parents(f"{base}.{alias.name}")]
    return files


def _find_module(folder: Path, name: str) -> Path | None:
    """The file of the folder that a module's name stands for."""
    path = folder / name.replace(".", "/")
    return next((f for f in (path / "__init__.py", path.with_name(f"{path.name}.py")) if f.is_file()), None)


def _with_parents(name: str) -> list[str]:
    """a.b.c: a, a.b and a.b.c."""
    return list(accumulate(name.split("."), lambda parent, part: f"{parent}.{part}"))


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
    example = "See README for an example."
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
