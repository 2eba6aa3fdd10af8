"""An experiment as pandas sees it: its tables, read once each."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bench.record.frame import read_frame

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Experiment:
    """The tables of results/<name>, as they stand when each is first read.

    Attributes:
        name: as in results/<name>.
        results: the folder of results.
        finished: whether all runs of the command that gave it are done; None where it was only opened.
    """

    name: str
    results: Path
    finished: bool | None = None

    @property
    def folder(self) -> Path:
        """Where the tables are, and the figures and the page once they are made."""
        return self.results / self.name

    @cached_property
    def runs(self) -> "pandas.DataFrame":
        """A row per run."""
        return read_frame(self.folder / "runs.csv")

    @cached_property
    def history(self) -> "pandas.DataFrame":
        """A row per run and epoch."""
        return read_frame(self.folder / "history.csv")

    @cached_property
    def summary(self) -> "pandas.DataFrame":
        """A row per arm: means over seeds, deviations, and 95 % intervals."""
        return read_frame(self.folder / "summary.csv")

    @cached_property
    def comparison(self) -> "pandas.DataFrame":
        """A row per arm and metric, against its baseline: paired differences and what they mean."""
        return read_frame(self.folder / "comparison.csv")
