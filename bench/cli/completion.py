"""What the shell offers on TAB; argcomplete asks from within the shell. Nothing here imports torch."""

import argparse
import os
import re
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from bench.cli.flags import TUNE_COUNTS
from bench.config import AXES
from bench.config.plugins import config_files, use_folder
from bench.config.ranges import RANGES, OneOf
from bench.config.settings import DESCRIBES
from bench.disk.gone import is_file, names_in
from bench.errors import UsageError


def answer(parser: argparse.ArgumentParser) -> None:
    """Prints what may come next, as argcomplete does it, names of files byte for byte."""
    import argcomplete

    file = os.environ.get("_ARGCOMPLETE_STDOUT_FILENAME")
    open_ = Path(file).open if file else partial(os.fdopen, 8)  # where argcomplete prints by itself
    with open_("w", encoding=sys.getfilesystemencoding(), errors="surrogateescape") as out:
        argcomplete.autocomplete(parser, output_stream=out)  # ends the process


def complete_override(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """The ways in which an override that begins with `prefix` may go on: its key, or its last value."""
    if parsed_args.config_dir:
        with suppress(UsageError):
            use_folder(parsed_args.config_dir)
    key, equals, value = prefix.partition("=")
    if not equals:
        # Optimizers' values have a longer key, optimizer.sgd.lr, than the table's.
        plain = [rule for rule in RANGES if not rule.startswith("optimizer.")]
        own = TUNE_COUNTS if parsed_args.command == "tune" else ()
        return [f"{name}=" for name in dict.fromkeys(["+exp", "exp", *own, *AXES, *plain, *_values()])]
    typed = re.sub(r"[^,\[]*$", "", value)  # of a sweep or a stack: none,[mixup,
    named = _recorded(Path(os.environ.get("REGBENCH_RESULTS") or "results")) if key == "exp" else []
    return [f"{key}={typed}{choice}" for choice in dict.fromkeys([*_choices(key.lstrip("+")), *named])]


def complete_exp(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """The experiments that have results."""
    return _recorded(parsed_args.results_dir)


def _recorded(results: Path) -> list[str]:
    return [name for name in names_in(results) if is_file(results / name / "runs.csv")]


def _values() -> list[str]:
    """The keys of models' and regularizers' values."""
    files = [(axis, file) for axis in ("model", "regularizer") for file in config_files(axis)]
    return [
        f"regularizer.{file.stem}.{key}" if axis == "regularizer" else f"model.{key}"
        for axis, file in files
        for key in yaml.safe_load(file.read_text("utf-8"))
        if key not in DESCRIBES
    ]


def _choices(key: str) -> list[str]:
    if key in (*AXES, "exp"):
        return [file.stem for file in config_files(key)]
    allowed = RANGES.get(key)
    return [str(value).lower() for value in allowed.values] if isinstance(allowed, OneOf) else []
