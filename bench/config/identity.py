"""What makes a run the run it is: every setting that can change its numbers, and the ids that stand for them."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bench.config.settings import PROTOCOL, Choice, Run

# Raised when a change moves numbers under equal settings; CHANGELOG.md says what moved.
PROTOCOL_VERSION = 1
# Settings that cannot change the numbers, or that stand there by another key: the data and the weights to start from
# by their content, whose path may change, and the value that a dataset's or a model's word holds.
NOT_IDENTITY = {
    *("dataset.root", "dataset.resident", "dataset.word", "model.word", "model.weights"),
    *("train.checkpoint_minutes", "train.tracker"),
}
# Keys that are younger than records which must keep their identity: left out where they hold their neutral value.
ADDED_LATER = {
    **{"regularizer.sam.interval": 1, "regularizer.asam.interval": 1},
    **{"dataset.flips": True, "dataset.drop_duplicates": False, "dataset.split_seed": None},
    **{"dataset.imbalance": 1, "dataset.label_noise": 0, "dataset.noisy_validation": False},
    "model.stochastic_depth": 0,
}


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
    counted = {k: value for k, value in settings.items() if k not in NOT_IDENTITY | in_words}
    kept = {k: value for k, value in counted.items() if ADDED_LATER.get(k, ...) != value} | dict(run.contents)
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


def shared_key(key: str) -> str:
    """A setting's key; of an optimizer's without the optimizer's name."""
    return re.sub(r"^optimizer\.[^.]+\.", "optimizer.", key)


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
