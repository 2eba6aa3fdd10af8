"""A run's curves for TensorBoard: what its history.csv holds, written epoch by epoch where `train.tracker` asks for it.

They are no part of the record: the numbers do not depend on them, and a training outlives what goes wrong with them.
The package comes with the extra [tensorboard], and is imported only where it is asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bench.disk.gone import names_in, remove
from bench.errors import UsageError
from bench.record.folder import CURVES, HISTORY_COLUMNS, RunFolder

_TAGS = [column for column in HISTORY_COLUMNS if column not in ("run_id", "epoch")]

Row = Mapping[str, Any]  # of history.csv


def load_writer(tracker: str) -> Callable[[str], Any] | None:
    """What makes a writer of curves into a folder; None for `none`.

    Raises:
        UsageError: its package is not installed.
    """
    if tracker == "none":
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            f"train.tracker={tracker} needs the package tensorboard; train.tracker=none needs nothing.\n"
            "Install it: pip install 'regbench[tensorboard]'"
        ) from error
    return SummaryWriter


@contextmanager
def tracking(tracker: str, folder: RunFolder, history: Sequence[Row]) -> Iterator[Callable[[Row], None]]:
    """Within it, what it gives is called with each new row of history.csv; the curves begin with those of `history`.

    Curves of an earlier training are removed, also where none are asked for: those that are there must be the record's,
    and a run that goes on has its epochs once.

    Raises:
        LockLost: another process has taken the run over.
    """
    load, curves_folder = load_writer(tracker), folder.path / CURVES
    old = [name for name in names_in(curves_folder) if name.startswith("events.out.tfevents.")]
    if load or old:
        folder.check()
    for name in old:
        remove(curves_folder / name)
    if load is None:
        yield lambda row: None
        return
    curves = _Curves(lambda: load(str(curves_folder)), folder.log)

    def track(row: Row) -> None:
        folder.check()
        curves.add(row)

    try:
        for row in history:
            track(row)
        yield track
    finally:
        curves.close()


class _Curves:
    """A writer that logs its first failure, and does nothing from then on."""

    def __init__(self, make_writer: Callable[[], Any], log: Callable[[str], object]) -> None:
        self.log = log
        self.writer: Any = None
        with self._ending_at_an_error():
            self.writer = make_writer()

    def add(self, row: Row) -> None:
        """Writes a row, so that nothing is left to write when the lock is lost."""
        with self._ending_at_an_error():
            for tag in _TAGS if self.writer else ():
                if tag in row:
                    self.writer.add_scalar(tag, row[tag], row["epoch"])
            if self.writer:
                self.writer.flush()

    def close(self) -> None:
        with self._ending_at_an_error():
            if self.writer:
                self.writer.close()

    @contextmanager
    def _ending_at_an_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # an OSError, or TensorFlow's own where that is installed
            self.writer = None
            self.log(f"no further curves could be written: {error}\n")
