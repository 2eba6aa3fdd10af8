"""Weights to start from and to keep: a state dict in a file, as torch.save writes it."""

import errno
from hashlib import file_digest
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from bench.errors import UsageError

_WRAPPERS = {"_orig_mod", "module"}  # torch.compile's and DataParallel's; parts of a tensor's name


def weights_fingerprint(path: str) -> str:
    """Twelve hex digits that stand for the file's content.

    Raises:
        UsageError: no such file.
    """
    try:
        with Path(path).open("rb") as file:
            return file_digest(file, "sha256").hexdigest()[:12]
    except OSError as error:
        raise UsageError(
            f"model.weights={path} cannot be read: {error.strerror}.\n"
            "It is the path of a state dict, such as the weights.pt of a run with keep_weights=true."
        ) from error


def load_weights(model: nn.Module, path: str, classes: int) -> None:
    """Puts the file's weights into the model; a head for another number of classes stays as it was drawn.

    The head are the tensors that differ in their first dimension only, which is K in the model. Names may have the
    prefixes of torch.compile, DataParallel and Lightning.

    Raises:
        UsageError: not a state dict, or one of another architecture.
    """
    own = model.state_dict()
    weights = _rename(_read(path), own)
    # Counts of batches are younger than many published files; torch does without them, too.
    strange = [f"it lacks {key}" for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    strange += [f"the model has no {key}" for key in weights if key not in own]
    differing = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    head = [key for key in differing if _is_head(own[key].shape, weights[key].shape, classes)]
    if len({weights[key].shape[0] for key in head}) > 1:
        head = []
    strange += [
        f"{key} is {tuple(weights[key].shape)} there, {tuple(own[key].shape)} in the model"
        for key in differing
        if key not in head
    ]
    if strange:
        more = f", and {len(strange) - 2} more" if len(strange) > 2 else ""
        raise UsageError(
            f"model.weights={path} does not fit the model: {'; '.join(strange[:2])}{more}.\n"
            "It must be a state dict of the same model, for images of as many channels; only the classes may differ."
        )
    if not any(tensor.is_meta for tensor in own.values()):  # where the model is only tried, it has no memory
        model.load_state_dict({**own, **{key: weight for key, weight in weights.items() if key not in head}})


def _rename(weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the model's own names, where they differ in what wrappers add."""
    names = {_strip(name): name for name in own}
    weights = {name: weight for name, weight in weights.items() if name != "n_averaged" or name in own}  # of an average
    if not any(_strip(name) in names for name in weights):
        weights = {name.removeprefix("model."): weight for name, weight in weights.items()}  # a LightningModule's
    renamed = {names.get(_strip(name), name): weight for name, weight in weights.items()}
    return renamed if len(names) == len(own) and len(renamed) == len(weights) else weights


def _strip(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _is_head(own: torch.Size, other: torch.Size, classes: int) -> bool:
    return len(own) == len(other) > 0 and own[0] == classes and own[1:] == other[1:]


def _read(path: str) -> dict[str, Tensor]:
    try:
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever a file that is none leads it to
        raise UsageError(
            f"model.weights={path} is not a file of weights: torch.load(..., weights_only=True) refuses it.\n"
            "Save it by torch.save(model.state_dict(), path)."
        ) from error
    if isinstance(weights, dict) and isinstance(weights.get("state_dict"), dict):  # Lightning's and others' checkpoints
        weights = weights["state_dict"]
    if not isinstance(weights, dict) or not weights or not all(isinstance(w, Tensor) for w in weights.values()):
        held = "a " + type(weights).__name__
        if isinstance(weights, dict):
            held += f" with the keys {', '.join(map(str, list(weights)[:4]))}"
        raise UsageError(f"model.weights={path} is not a state dict: it holds {held}.\nSave model.state_dict() alone.")
    return weights


def write_weights(model: nn.Module, file: IO[bytes]) -> None:
    """Writes the model's state dict, its tensors on the CPU.

    Raises:
        OSError: it could not be written.
    """
    weights = {key: value.cpu() for key, value in model.state_dict().items()}
    try:
        torch.save(weights, file)
    except RuntimeError as error:  # torch makes one of a full disk
        raise OSError(errno.ENOSPC, f"the weights could not be written: {error}") from error
