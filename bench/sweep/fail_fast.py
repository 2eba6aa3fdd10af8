"""A sweep's note to all its processes that one of its runs has failed: with `fail_fast` they begin no other."""

import secrets
from contextlib import suppress
from pathlib import Path

from bench.disk.gone import is_file, remove


class FailFast:
    """A file that is there once a run of the sweep has failed: nobody has to look at every record for it."""

    def __init__(self, results: Path) -> None:
        self._file = results.absolute() / "runs" / f".failed.{secrets.token_hex(8)}"
        self._noted = False

    def note(self) -> None:
        """A run has failed."""
        self._noted = True
        with suppress(OSError):  # a full disk: the run is on record, and whoever else fails notes it again
            self._file.touch()

    def is_noted(self) -> bool:
        """Whether one has."""
        return self._noted or is_file(self._file)

    def forget(self) -> None:
        """The sweep is over."""
        with suppress(OSError):
            remove(self._file)
