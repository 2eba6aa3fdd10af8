"""What makes a run the run it is, and the files in which it is recorded.

A run's folder is results/runs/<run_id>/. `result.json` is written last and by atomic rename: it is the commit point,
and a folder without it holds nothing that counts.
"""

import csv
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from bench import AXES, UsageError
from bench.escape import to_utf8
from bench.gone import names_in, read_if_there, remove, unless_gone
from bench.settings import Choice, Run

# Raised when a change moves numbers under equal settings; CHANGELOG.md tells what moved.
PROTOCOL_VERSION = 1

# Settings that cannot change the numbers, or that stand there by another key: the data and the weights to start from
# by their content, whose path may change, and the value that a dataset's or a model's word holds.
NOT_IDENTITY = {
    *("dataset.root", "dataset.word", "model.word", "model.weights"),
    *("train.checkpoint_minutes", "train.tracker"),
}

# Keys that are younger than records which must keep their identity: left out where they hold their neutral value.
ADDED_LATER = {"regularizer.sam.interval": 1, "regularizer.asam.interval": 1, "dataset.flips": True}

# In a run's folder: its record, the weights that may be kept, and what it goes on from when it was interrupted.
RESULT, WEIGHTS, CHECKPOINT = "result.json", "weights.pt", "checkpoint.pt"
_ALWAYS = {"run_id", "arm_id", "protocol_version", "status", "config", "seed", *AXES}

HISTORY_COLUMNS = ["run_id", "epoch", "train_loss", "val_accuracy", "val_nll", "val_ece", "lr", "seconds"]


def identity(run: Run) -> dict[str, Any]:
    """Every setting that can change the numbers, by its key in the config; device and precision are resolved by now."""

    def values(path: str, choice: Choice) -> dict[str, Any]:
        return {f"{path}.{key}": _plain(value) for key, value in choice.values.items()}

    train = {f"train.{key}": _plain(value) for key, value in vars(run.train).items()}
    train["train.device"] = run.train.device.split(":")[0]
    if run.train.gradient_evaluations is not None:
        train["train.epochs"] = None  # the budget replaces it
    settings = {
        **run.words,
        **values("dataset", run.dataset),
        **values("model", run.model),
        **values(f"optimizer.{run.optimizer.name}", run.optimizer),
        **train,
        "seed": run.seed,
        "fingerprint": run.fingerprint,
        "protocol_version": PROTOCOL_VERSION,
    }
    for choice in run.regularizers:
        settings |= values(f"regularizer.{choice.name}", choice)
    in_words = {f"dataset.{run.dataset.values.get('word')}", f"model.{run.model.values.get('word')}"}
    told = {k: value for k, value in settings.items() if k not in NOT_IDENTITY | in_words}
    return {k: value for k, value in told.items() if ADDED_LATER.get(k, ...) != value} | dict(run.contents)


def run_id(run: Run) -> str:
    """Twelve hex digits that stand for the run's identity."""
    return _digest(identity(run))


def arm_id(run: Run) -> str:
    """Twelve hex digits for the identity less its seed: runs with unlike settings are never averaged."""
    return _digest({key: value for key, value in identity(run).items() if key != "seed"})


def shorten(settings: Sequence[str], regularizer: str) -> list[str]:
    """An arm's settings (`regularizer.sam.rho=0.1`) with the last part of each key, or the last two where it would not
    tell: where another ends alike, or the regularizer is a stack and the key is one of its parts'."""
    pairs = [setting.partition("=") for setting in settings]
    last = Counter(key.rpartition(".")[2] for key, _, _ in pairs)

    def shorten_key(key: str) -> str:
        of_stack = "+" in regularizer and key.startswith("regularizer.")
        return ".".join(key.split(".")[-2 if of_stack or last[key.rpartition(".")[2]] > 1 else -1 :])

    return [f"{shorten_key(key)}{sign}{value}" for key, sign, value in pairs]


def _plain(value: Any) -> Any:
    """Equal numbers written alike: 0 and 0.0 are one setting."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def run_folder(results: Path, identifier: str) -> Path:
    """Where a run of any experiment is recorded."""
    return results / "runs" / identifier


def run_folders(results: Path) -> list[Path]:
    """The folders of all runs that have one, by name."""
    return [run_folder(results, name) for name in names_in(results / "runs") if not name.startswith(".")]


def write_run(
    folder: Path,
    run: Run,
    result: Mapping[str, Any],
    history: Iterable[Mapping[str, Any]],
    arrays: Mapping[str, Any],
    may_write: Callable[[], None] = lambda: None,
) -> None:
    """Records a run: its configuration, its history, its logits if it has any, and last its result.

    Args:
        folder: the run's; made if need be.
        run: as it was trained, device and precision resolved.
        result: the row of runs.csv but for what the tables add; None for a number that the run does not have.
        history: the rows of history.csv but for `run_id`.
        arrays: for logits.npz.
        may_write: raises where another process has recorded the run by now; called before anything is replaced.
    """
    may_write()
    settings = identity(run)
    identifiers = {"run_id": run_id(run), "arm_id": arm_id(run), "protocol_version": PROTOCOL_VERSION}
    rows = [{"run_id": identifiers["run_id"], **row} for row in history]
    write_atomically(folder / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    write_atomically(folder / "history.csv", to_csv(HISTORY_COLUMNS, rows))
    if arrays:
        with open_atomically(folder / "logits.npz") as file:
            np.savez(file, **arrays)
    else:
        remove(folder / "logits.npz")  # of an earlier training that got further
    words = {axis: settings[axis] for axis in AXES}
    whole = {**identifiers, **words, "seed": run.seed, **result, "config": settings}
    may_write()
    write_atomically(folder / RESULT, json.dumps(whole, indent=1) + "\n")


def read_result(folder: Path) -> dict[str, Any] | None:
    """A recorded run's result, or None where there is none that can be read: the run is trained again then.

    Raises:
        UsageError: it was written by a newer regbench.
    """
    content = read_if_there(folder / RESULT)
    try:
        result: dict[str, Any] | None = json.loads(content or b"null")
    except ValueError:
        return None
    if not isinstance(result, dict) or not result.keys() >= _ALWAYS:
        return None
    check_protocol(result["protocol_version"], folder / RESULT)
    return result


def check_protocol(version: str | int, file: Path) -> None:
    """Raises UsageError where `file` was written by a regbench whose records this one may misread."""
    if int(version) > PROTOCOL_VERSION:
        raise UsageError(
            f"{file} was written by a newer regbench: its protocol is {version}, this one knows {PROTOCOL_VERSION}.\n"
            "Install that regbench, or give results_dir another folder."
        )


def record_stamp(folder: Path) -> str:
    """What tells a run's record from the one that replaces it; empty where there is none."""
    status = unless_gone((folder / RESULT).stat)
    return f"{status.st_mtime_ns}/{status.st_ino}" if status else ""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all."""
    with open_atomically(path) as file:
        file.write(to_utf8(content) if isinstance(content, str) else content)


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its name when it is whole: readers see the old one or the new one, also when the
    machine dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        remove(temporary)
        if isinstance(error, OSError):  # a full disk does not say which file
            error.filename = error.filename or str(path)
        raise


def remove_parts(folder: Path) -> None:
    """Removes what processes that died left half-written; for who holds the folder's lock."""
    for name in names_in(folder):
        if name.startswith(".") and name.endswith(".part"):
            remove(folder / name)


def to_csv(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV: floats in full, an empty cell for None or a missing key."""
    columns = list(columns)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
