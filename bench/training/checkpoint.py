"""A run's checkpoint: all that a run needs to go on where it was, to the last bit.

Random streams are functions of the position, so weights, optimizer state and position are all of it. It is read with
weights_only=True: a file in a results folder runs no code. It is torch's archive, and after that the SHA-256 of it.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import torch

from bench.disk.files import open_atomically
from bench.disk.gone import is_gone, unless_gone
from bench.machine.memory import ran_out
from bench.record.folder import CHECKPOINT, RunFolder, RunResult
from bench.training import interrupt
from bench.training.budget import count_evaluations
from bench.training.trainer import Trainer


@dataclass
class Checkpoints:
    """Writes a run's checkpoint every `minutes`, and when a signal asks the run to stop; None: only then."""

    folder: RunFolder
    minutes: float | None
    result: RunResult  # whoever trains keeps it up to date
    last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether one is to be written before the next step; it is asked after each, so it must cost nothing."""
        return interrupt.stop_requested() or (
            self.minutes is not None and time.monotonic() - self.last >= self.minutes * 60
        )

    def write(self, trainer: Trainer) -> None:
        """Writes it, whole or not at all.

        Raises:
            LockLost: another process has taken the run over.
            Interrupted: a signal asked for the checkpoint.
        """
        self.folder.check()
        state = {
            "progress": self.result.progress,
            "history": self.result.history,
            "threads": torch.get_num_threads(),
            "gradient_evaluations": count_evaluations(trainer.steps, trainer.slots.gradient.evaluations_per_step),
            "trainer": trainer.state_dict(),
        }
        try:
            write_checkpoint(self.folder.path, state)
        except (OSError, RuntimeError) as error:  # a full disk: torch makes a RuntimeError of it
            self.folder.log(f"no checkpoint could be written: {error}\n")
        self.last = time.monotonic()
        interrupt.stop_if_requested()


_MARK = b"sha256 "  # stands between the archive and its digest; torch's reader passes over both


class _Hashed:
    """A file to write that adds up the digest of its content."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, sha256()

    def write(self, content: bytes) -> int:
        """Writes as the file does."""
        self.digest.update(content)
        return self.file.write(content)

    def flush(self) -> None:
        """Flushes as the file does."""
        self.file.flush()


def write_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Writes a run's checkpoint whole or not at all.

    Raises:
        OSError, RuntimeError: it could not be written; torch makes the second of a full disk.
    """
    with open_atomically(folder / CHECKPOINT) as file:
        hashed = _Hashed(file)
        torch.save(state, hashed)  # type: ignore[arg-type]  # it writes and flushes, no more
        file.write(_MARK + hashed.digest.digest())


def read_checkpoint(folder: Path, lazily: bool = False) -> dict[str, Any] | None:
    """A run's checkpoint, None where there is none; a damaged one is set aside with a warning.

    Args:
        folder: the run's.
        lazily: whether tensors stay on the disk, for who asks for the position only; then nothing is set aside.

    Raises:
        OSError, MemoryError: it cannot be read now, which says nothing about the file.
    """
    path = folder / CHECKPOINT
    whole = unless_gone(lambda: lazily or _is_whole(path))
    if whole is None:
        return None
    try:
        if not whole:
            raise ValueError("its digest is not that of its content")
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=lazily)
        checkpoint["trainer"]["epoch"]
    except Exception as error:  # torch.load raises whatever a broken file leads it to
        if ran_out(error):
            raise
        if is_gone(error):
            return None
        if not lazily:
            _set_aside(folder)
            print(
                f"regbench: {path} is damaged and set aside; the run starts over ({type(error).__name__})",
                file=sys.stderr,
            )
        return None
    return checkpoint


def _is_whole(path: Path) -> bool:
    """Whether it ends with the digest of all that stands before."""
    digest = sha256()
    with path.open("rb") as file:
        end = file.seek(0, 2) - len(_MARK) - digest.digest_size
        file.seek(0)
        for start in range(0, end, 2**20):
            digest.update(file.read(min(2**20, end - start)))
        return file.read() == _MARK + digest.digest()


def resume(trainer: Trainer, checkpoint: dict[str, Any], folder: Path) -> None:
    """Puts the trainer where the checkpoint was written.

    Raises:
        RuntimeError: it is another model's or version's, and is set aside, so that the next try starts over; or there
            is too little memory for it, and it stays.
    """
    try:
        trainer.load_state_dict(checkpoint["trainer"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        if ran_out(error):  # that says nothing about the checkpoint
            raise
        _set_aside(folder)
        raise RuntimeError("the checkpoint does not fit and is set aside; retry_failed=true starts over") from error


def _set_aside(folder: Path) -> None:
    unless_gone(lambda: (folder / CHECKPOINT).replace(folder / "checkpoint.damaged"))
