"""Where a run's curves go while it trains: what its history.csv holds, epoch by epoch, to what `train.tracker` names.

They are no part of the record: the numbers do not depend on them, and a training outlives what goes wrong with them.
A tracker's package comes with the extra of its name, and is imported only where it is asked for.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Protocol, Self

from bench.config.settings import Run
from bench.console.lines import first_line
from bench.errors import LockLost, UsageError
from bench.record.folder import RunFolder, RunResult
from bench.training.tracker import mlflow, tensorboard

Row = Mapping[str, Any]  # of history.csv


class Curves(Protocol):
    """A run's, as a tracker keeps them; whatever they raise is logged."""

    def __init__(self, run: Run, exp: str, folder: RunFolder, resumed: bool) -> None: ...

    def start(self) -> None:
        """Is called once before all others."""

    def add(self, row: Row) -> None:
        """Writes a row, so that nothing is left to write when the lock is lost."""

    def end(self, result: RunResult | None) -> None:
        """Writes what the run came to, once it is recorded; None where it was interrupted."""

    def close(self) -> None:
        """Is called once after all others, also where the lock is lost: nothing is written."""


_CURVES: dict[str, type[Curves]] = {"tensorboard": tensorboard.TensorboardCurves, "mlflow": mlflow.MlflowCurves}


def check_tracker(tracker: str) -> None:
    """Raises UsageError where the tracker's package is not installed."""
    if tracker != "none" and find_spec(tracker) is None:
        raise UsageError(
            f"train.tracker={tracker} needs the package {tracker}; train.tracker=none needs nothing.\n"
            f"Install it: pip install 'regbench[{tracker}]'"
        )


class Tracker:
    """A run's curves, which harm nothing: the first failure is logged, and from then on they are only ended.

    Within it, as a context, the run is trained and recorded.
    """

    def __init__(self, run: Run, exp: str, folder: RunFolder) -> None:
        self.run, self.exp, self.folder = run, exp, folder
        self.curves: Curves | None = None
        self.works = True

    def begin(self, history: Sequence[Row], resumed: bool) -> None:
        """Begins the curves with those of `history`: anew, or where an earlier process left them.

        Curves of an earlier training are removed, also where none are asked for: those that are there must be the
        record's, and a run that goes on has its epochs once.

        Raises:
            LockLost: another process has taken the run over.
            UsageError: the tracker's package is not installed.
        """
        name = self.run.train.tracker
        check_tracker(name)
        self._close()
        self.works = True
        with self._harmless():
            tensorboard.remove_curves(self.folder)
        if name != "none":
            self.folder.check()
            self._make(resumed)
        if not resumed:
            with self._harmless():
                mlflow.forget(self.folder)
        if self.curves is None or not self.works:
            return
        with self._harmless():
            self.curves.start()
        for row in history:
            self.add(row)

    def add(self, row: Row) -> None:
        """Adds a new row of history.csv.

        Raises:
            LockLost: another process has taken the run over.
        """
        if self.curves and self.works:
            self.folder.check()
            with self._harmless():
                self.curves.add(row)

    def end(self, result: RunResult | None) -> None:
        """Ends the curves of a run that is recorded; None where it was interrupted."""
        if self.curves:
            with self._harmless():
                self.curves.end(result)
        self._close()

    def end_left(self, result: RunResult) -> None:
        """Ends the curves of a recorded run whose process died; those that are there stay."""
        if self.run.train.tracker in _CURVES:
            self._make(resumed=True)
        self.end(result)

    def _make(self, resumed: bool) -> None:
        with self._harmless():
            self.curves = _CURVES[self.run.train.tracker](self.run, self.exp, self.folder, resumed)

    def _close(self) -> None:
        if self.curves:
            with self._harmless():
                self.curves.close()
        self.curves = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, LockLost):
            self._close()
        else:
            self.end(None)

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except LockLost:
            raise
        except Exception as error:  # an OSError, or a package's own
            if self.works:
                reason = re.sub(r"//[^/@\s]*@", "//", first_line(str(error)))  # an address may hold a password
                self.folder.log(f"no further curves could be written: {reason}\n")
            self.works = False
