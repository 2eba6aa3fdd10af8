"""A run's checkpoint: all that a run needs to go on where it was, to the last bit.

Random streams are functions of the position, so weights, optimizer state and position are all of it. It is read with
weights_only=True: a file in a results folder runs no code.
"""

import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench import interrupt
from bench.gone import is_gone, unless_gone
from bench.memory import ran_out
from bench.record import CHECKPOINT, open_atomically
from bench.train import Trainer, count_evaluations


@dataclass
class Checkpoints:
    """Writes a run's checkpoint every `minutes`, and when a signal asks the run to stop; None: only then."""

    folder: Path
    minutes: float | None
    progress: dict[str, Any]  # the run's counts and times so far, and its rows of history.csv: whoever trains
    history: list[dict[str, Any]]  # keeps them up to date
    may_write: Callable[[], None]  # raises where the run is another process's by now
    log: Callable[[str], object]
    last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether one is to be written before the next step; it is asked after each, so it must cost nothing."""
        return interrupt.asked() or (self.minutes is not None and time.monotonic() - self.last >= self.minutes * 60)

    def write(self, trainer: Trainer) -> None:
        """Writes it, whole or not at all.

        Raises:
            LockLost: another process has taken the run over.
            Interrupted: a signal asked for the checkpoint.
        """
        self.may_write()
        state = {
            "progress": self.progress,
            "history": self.history,
            "threads": torch.get_num_threads(),
            "gradient_evaluations": count_evaluations(trainer.steps, trainer.slots.gradient.evaluations_per_step),
            "trainer": trainer.state_dict(),
        }
        try:
            with open_atomically(self.folder / CHECKPOINT) as file:
                torch.save(state, file)
        except (OSError, RuntimeError) as error:  # a full disk: torch makes a RuntimeError of it
            self.log(f"no checkpoint could be written: {error}\n")
        self.last = time.monotonic()
        interrupt.stop_if_asked()


def read_checkpoint(folder: Path, lazily: bool = False) -> dict[str, Any] | None:
    """A run's checkpoint, None where there is none; a damaged one is set aside with a warning.

    Args:
        folder: the run's.
        lazily: whether tensors stay on the disk, for who asks for the position only; then nothing is set aside.
    """
    path = folder / CHECKPOINT
    try:
        if not lazily:  # torch reads over a flipped bit
            with zipfile.ZipFile(path) as file:
                damaged = file.testzip()
            if damaged:
                raise ValueError(f"the checksum of {damaged} is wrong")
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=lazily)
        checkpoint["trainer"]["epoch"]
    except (OSError, MemoryError) as error:  # the others say nothing about the file
        if is_gone(error):
            return None
        raise
    except Exception as error:  # torch.load raises whatever a broken file leads it to
        if not lazily:
            _set_aside(folder)
            print(
                f"regbench: {path} is damaged and set aside; the run starts over ({type(error).__name__})",
                file=sys.stderr,
            )
        return None
    return checkpoint


def go_on(trainer: Trainer, checkpoint: dict[str, Any], folder: Path) -> None:
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
