"""A run's curves for TensorBoard, in its folder."""

from collections.abc import Mapping
from typing import Any

from bench.config.settings import Run
from bench.disk.gone import names_in, remove
from bench.record.folder import CURVES, HISTORY_COLUMNS, RunFolder, RunResult

_TAGS = [column for column in HISTORY_COLUMNS if column not in ("run_id", "epoch")]


def remove_curves(folder: RunFolder) -> None:
    """Removes those of an earlier training, or of an earlier process.

    Raises:
        LockLost: another process has taken the run over.
    """
    old = [name for name in names_in(folder.path / CURVES) if name.startswith("events.out.tfevents.")]
    if old:
        folder.check()
    for name in old:
        remove(folder.path / CURVES / name)


class TensorboardCurves:
    """Curves in an event file; as `Curves`. A run that goes on writes them anew."""

    def __init__(self, run: Run, exp: str, folder: RunFolder, resumed: bool) -> None:
        self.folder = folder.path / CURVES
        self.writer: Any = None

    def start(self) -> None:
        """Makes the file."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder))

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes a row, down to the disk."""
        for tag in _TAGS:
            if tag in row:
                self.writer.add_scalar(tag, row[tag], row["epoch"])
        self.writer.flush()

    def end(self, result: RunResult | None) -> None:
        """Has nothing to add."""

    def close(self) -> None:
        """Closes the file."""
        if self.writer:
            self.writer.close()
