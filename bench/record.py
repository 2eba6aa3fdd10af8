"""What makes a run the run it is, and the files in which it is recorded.

A run's folder is results/runs/<run_id>/. `result.json` is written last and by atomic rename: it is the commit point,
and a folder without it holds nothing that counts.
"""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench import AXES, UsageError
from bench.escape import to_utf8
from bench.files import Write, to_csv, write_together
from bench.gone import names_in, read_if_there, unless_gone
from bench.settings import PROTOCOL, Choice, Run

# Raised when a change moves numbers under equal settings; CHANGELOG.md tells what moved.
PROTOCOL_VERSION = 1

# Settings that cannot change the numbers, or that stand there by another key: the data and the weights to start from
# by their content, whose path may change, and the value that a dataset's or a model's word holds.
NOT_IDENTITY = {
    *("dataset.root", "dataset.word", "model.word", "model.weights"),
    *("train.checkpoint_minutes", "train.tracker"),
}

# Keys that are younger than records which must keep their identity: left out where they hold their neutral value.
ADDED_LATER = {
    **{"regularizer.sam.interval": 1, "regularizer.asam.interval": 1},
    **{"dataset.flips": True, "dataset.drop_duplicates": False, "dataset.split_seed": None},
}

# In a run's folder: its record, history and logits, the weights that may be kept, and what a run goes on from.
RESULT, HISTORY, LOGITS, WEIGHTS, CHECKPOINT = "result.json", "history.csv", "logits.npz", "weights.pt", "checkpoint.pt"
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
    kept = {k: value for k, value in told.items() if ADDED_LATER.get(k, ...) != value} | dict(run.contents)
    return {k: value for k, value in kept.items() if run.contents.get(k, ...) is not None}


def run_id(run: Run) -> str:
    """Twelve hex digits that stand for the run's identity."""
    return digest(identity(run))


def arm_id(run: Run) -> str:
    """Twelve hex digits for the identity less its seed: runs with unlike settings are never averaged."""
    return digest({key: value for key, value in identity(run).items() if key != "seed"})


def data_id(settings: Mapping[str, Any]) -> str:
    """Twelve hex digits for the data in a run's identity, or an arm's: their content and how they are read, not how
    they are split."""
    loader = f"source.{settings.get('dataset._target_')}"
    of_protocol = {f"dataset.{key}" for key in PROTOCOL}
    keys = [k for k in settings if k in ("fingerprint", loader) or (k.startswith("dataset.") and k not in of_protocol)]
    return digest({key: settings[key] for key in keys})


def show_setting(key: str, value: Any) -> str:
    """A setting on a line of such: as in Hydra's overrides, without spaces."""
    return f"{key}={'null' if value is None else value}".replace(" ", "")


def shorten(settings: Sequence[str], regularizer: str) -> list[str]:
    """An arm's settings (`regularizer.sam.rho=0.1`) with the last part of each key, or the last two where it would not
    tell: where another ends alike, or the regularizer is a stack and the key is one of its parts'. Of hashes, as of the
    data's content, it keeps 8 digits."""
    pairs = [setting.partition("=") for setting in settings]
    last = Counter(key.rpartition(".")[2] for key, _, _ in pairs)

    def shorten_key(key: str) -> str:
        of_stack = "+" in regularizer and key.startswith("regularizer.")
        return ".".join(key.split(".")[-2 if of_stack or last[key.rpartition(".")[2]] > 1 else -1 :])

    return [f"{shorten_key(key)}{sign}{shorten_hash(value)}" for key, sign, value in pairs]


def shorten_hash(value: Any) -> str:
    """A setting's value for print: of a hash the first 8 digits, and of several (of a data set's files) the first's."""
    return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{24,}(\+[0-9a-f]{32,})*\b", r"\1", str(value))


def _plain(value: Any) -> Any:
    """Equal numbers written alike: 0 and 0.0 are one setting."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if isinstance(value, dict):
        mixed = len({*map(type, value)}) > 1  # which JSON cannot sort
        return {json.dumps(key) if mixed and not isinstance(key, str) else key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def digest(settings: Mapping[str, Any]) -> str:
    """Twelve hex digits that stand for settings: an arm's, or with the seed a run's."""
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
    write_weights: Write | None = None,
) -> None:
    """Records a run: its configuration, its history, its logits and weights if it has any, and last its result.

    Args:
        folder: the run's; made if need be.
        run: as it was trained, device and precision resolved.
        result: the row of runs.csv but for what the tables add; None for a number that the run does not have.
        history: the rows of history.csv but for `run_id`.
        arrays: for logits.npz.
        may_write: raises where another process has recorded the run by now; called before anything is replaced.
        write_weights: writes the model's, where they are kept.
    """
    may_write()
    settings = identity(run)
    identifiers = {"run_id": run_id(run), "arm_id": arm_id(run), "protocol_version": PROTOCOL_VERSION}
    data = {"data_id": data_id(settings)}  # of the file in results/datasets
    rows = [{"run_id": identifiers["run_id"], **row} for row in history]
    logits = _to_npz(arrays) if arrays else None
    words = {axis: settings[axis] for axis in AXES}
    whole = {**identifiers, **data, **words, "seed": run.seed, **result, "config": settings}
    contents = {
        "config.yaml": yaml.safe_dump(settings, sort_keys=False).encode(),
        HISTORY: to_utf8(to_csv(HISTORY_COLUMNS, rows)),
        LOGITS: logits,
    }
    whole["sha256"] = {name: _sha256(content) for name, content in contents.items() if content}
    files = {name: _writing(content) for name, content in contents.items()}
    write_together(folder, {**files, WEIGHTS: write_weights, RESULT: _writing(seal(whole))}, RESULT, may_write)


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


def add_to_log(folder: Path, text: str) -> None:
    """Adds to a run's log.txt; where that fails, on a full disk for one, the text is lost, and no run ends of it."""
    with suppress(OSError), (folder / "log.txt").open("ab") as file:
        file.write(to_utf8(text))


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
    return result["status"] != "done" or history.count(b"\n") == int(result["epochs"]) + 1


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
