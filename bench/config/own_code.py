"""Classes and functions that configs name: regbench's, a library's, or of a module in the user's folder."""

import ast
import os
import pkgutil
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path
from typing import Any, get_type_hints

from bench.config.plugins import VARIABLE, user_folder
from bench.config.ranges import Rule, as_rule, check_value
from bench.config.settings import DESCRIBES
from bench.errors import UsageError

_PUBLISHED = {"bench", "torch", "torchvision", "timm"}  # whose source is no part of a run's identity


def is_published(name: str) -> bool:
    """Whether a module, or what it holds, is regbench's own or a library's that its choices name."""
    return name.partition(".")[0] in _PUBLISHED


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


def make(values: Mapping[str, Any], *args: Any, path: str = "") -> Any:
    """Constructs what a config node describes: calls its `_target_` with its other values, after `args`.

    Args:
        values: of the node.
        args: the first of the call.
        path: of the node in the config, for messages, such as regularizer.sam.

    Raises:
        UsageError: a value that its parameter's annotation does not allow.
    """
    target = resolve(values["_target_"])
    given = {key: value for key, value in values.items() if key not in DESCRIBES}
    allowed = find_ranges(target)
    for key, value in given.items():
        if key in allowed:
            check_value(f"{path}.{key}", allowed[key], value)
    return target(*args, **given)


def find_ranges(target: Any) -> dict[str, Rule]:
    """What each parameter of a class or function allows, where its annotation says so.

    That is Annotated with a rule of bench.config.ranges, or with bounds as those of the package annotated-types:
    `rho: Annotated[float, Range(low=0)]`, `rho: Annotated[float, Ge(0)]`.
    """
    hints: dict[str, Any] = {}
    for each in (target, getattr(target, "__init__", None)):
        with suppress(Exception):  # a user's own annotations may name what is not there
            hints |= get_type_hints(each, include_extras=True)
    found = {
        key: [as_rule(note, hint.__origin__) for note in hint.__metadata__]
        for key, hint in hints.items()
        if hasattr(hint, "__metadata__")
    }
    return {key: rule for key, rules in found.items() for rule in rules if rule is not None}
