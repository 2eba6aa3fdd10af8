"""What makes a run the run it is, and the files in which it is recorded.

A run's folder is results/runs/<run_id>/. `result.json` is written last and by atomic rename: it is the commit point,
and a folder without it holds nothing that counts.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.config import AXES
from bench.config.identity import PROTOCOL_VERSION, arm_id, data_id, identity, run_id
from bench.config.settings import Run
from bench.console.escape import to_utf8
from bench.disk.files import Write, to_csv, write_together
from bench.disk.gone import names_in, read_if_there, unless_gone
from bench.errors import UsageError
from bench.status import Status

# In a run's folder: its record, history and logits, the weights that may be kept, and what a run goes on from.
RESULT, HISTORY, LOGITS, WEIGHTS, CHECKPOINT = "result.json", "history.csv", "logits.npz", "weights.pt", "checkpoint.pt"
_ALWAYS = {"run_id", "arm_id", "protocol_version", "status", "config", "seed", *AXES}

HISTORY_COLUMNS = ["run_id", "epoch", "train_loss", "val_accuracy", "val_nll", "val_ece", "lr", "seconds"]


def run_folder(results: Path, identifier: str) -> Path:
    """Where a run of any experiment is recorded."""
    return results / "runs" / identifier


def run_folders(results: Path) -> list[Path]:
    """The folders of all runs that have one, by name."""
    return [run_folder(results, name) for name in names_in(results / "runs") if not name.startswith(".")]


@dataclass
class RunResult:
    """What a run has given so far.

    Attributes:
        row: of runs.csv, but for what the tables add; None for a number that the run does not have.
        progress: of that row the counts and times, which a checkpoint keeps.
        history: the rows of history.csv, but for `run_id`; a checkpoint keeps them, too.
        arrays: for logits.npz.
    """

    row: dict[str, Any]
    progress: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFolder:
    """A run's folder in the hands of the one process that trains it.

    Attributes:
        path: of the folder, made if need be.
        check: raises LockLost where another process has taken the run over; nothing may be written then but the log.
    """

    path: Path
    check: Callable[[], None] = lambda: None

    def log(self, text: str) -> None:
        """Adds to log.txt; where that fails, on a full disk for one, the text is lost, and no run ends of it."""
        with suppress(OSError), (self.path / "log.txt").open("ab") as file:
            file.write(to_utf8(text))

    def record(self, run: Run, result: RunResult, write_weights: Write | None = None) -> None:
        """Writes configuration, history, logits and weights, what there is of them, and last the result.

        Args:
            run: as it was trained, device and precision resolved.
            result: what it has given.
            write_weights: writes the model's, where they are kept.

        Raises:
            LockLost: another process has recorded the run by now; nothing was replaced.
            OSError: it could not be written.
        """
        self.check()
        settings = identity(run)
        identifiers = {"run_id": run_id(run), "arm_id": arm_id(run), "protocol_version": PROTOCOL_VERSION}
        data = {"data_id": data_id(settings)}  # of the file in results/datasets
        words = {axis: settings[axis] for axis in AXES}
        row = {**result.row, **result.progress}
        whole = {**identifiers, **data, **words, "seed": run.seed, **row, "config": settings}
        history = [{"run_id": identifiers["run_id"], **each} for each in result.history]
        contents = {
            "config.yaml": yaml.safe_dump(settings, sort_keys=False).encode(),
            HISTORY: to_utf8(to_csv(HISTORY_COLUMNS, history)),
            LOGITS: _to_npz(result.arrays) if result.arrays else None,
        }
        whole["sha256"] = {name: _sha256(content) for name, content in contents.items() if content}
        files = {name: _writing(content) for name, content in contents.items()}
        write_together(self.path, {**files, WEIGHTS: write_weights, RESULT: _writing(seal(whole))}, RESULT, self.check)


def seal(record: Mapping[str, Any]) -> bytes:
    """A record as JSON that holds the digest of itself, by which `unseal` knows damage."""
    record = json.loads(json.dumps(record))  # as it will be read: keys that are numbers become text, and sort as such
    digests = record.get("sha256", {}) | {"": _sha256_of(record)}
    return (json.dumps({**record, "sha256": digests}, indent=1) + "\n").encode()


def unseal(content: bytes) -> dict[str, Any]:
    """The record that `seal` made JSON of; records of an older regbench hold no digest.

    Raises:
        ValueError: it is damaged.
    """
    record = json.loads(content)
    if not isinstance(record, dict) or ("sha256" in record and record["sha256"].get("") != _sha256_of(record)):
        raise ValueError("the record's digest is not its own")
    return record


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sha256_of(record: Mapping[str, Any]) -> str:
    """Of what a record holds but for the digest itself, in whatever order."""
    digests = {name: digest for name, digest in record.get("sha256", {}).items() if name}
    return _sha256(json.dumps({**record, "sha256": digests}, sort_keys=True).encode())


def _writing(content: bytes | None) -> Write | None:
    return None if content is None else lambda file: file.write(content)


def _to_npz(arrays: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def read_result(folder: Path) -> dict[str, Any] | None:
    """A recorded run's result, or None where there is none that is whole: the run is trained again then.

    Raises:
        UsageError: it was written by a newer regbench.
    """
    content = read_if_there(folder / RESULT)
    try:
        result = unseal(content or b"null")
        if not result.keys() >= _ALWAYS:
            return None
        version = int(result["protocol_version"])
    except (ValueError, TypeError, AttributeError):
        return None
    check_protocol(version, folder / RESULT)
    return result if _is_its(read_if_there(folder / HISTORY) or b"", result) else None


def _is_its(history: bytes, result: Mapping[str, Any]) -> bool:
    """Whether it is the record's own history.csv; of an older regbench's only the length is known."""
    if "sha256" in result:
        return bool(result["sha256"].get(HISTORY) == _sha256(history))
    return result["status"] != Status.DONE or history.count(b"\n") == int(result["epochs"]) + 1


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


CURVES = "tensorboard"  # in a run's folder
