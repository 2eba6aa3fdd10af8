"""An experiment: its tables, read once, for the report, the figures, the page, and Python."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.evidence.comparison import Comparison, read_comparison
from bench.evidence.pairing import Arm, read_arms
from bench.record.frame import read_frame
from bench.record.read_tables import Row, explaining_damage, read_csv, read_settings
from bench.record.tables import read_commands, read_rows

if TYPE_CHECKING:
    import pandas


def name_results(results: Path) -> str:
    """The flag that names a folder of results in a command; empty for the one that commands take without it."""
    return "" if results == Path("results") else f" --results-dir {shlex.quote(str(results))}"


@dataclass(frozen=True)
class Experiment:
    """The runs of results/<name>, and its other tables as they stand when each is first read.

    Attributes:
        name: as in results/<name>.
        results: the folder of results.
        rows: of runs.csv, as text; all of them, or those that are looked at.
        settings: every setting of each arm, by arm_id.
        finished: whether all runs of the command that gave it are done; None where it was only opened.
    """

    name: str
    results: Path
    rows: Sequence[Row]
    settings: Mapping[str, Mapping[str, Any]]
    finished: bool | None = None

    @classmethod
    def load(cls, results: Path, name: str, finished: bool | None = None) -> "Experiment":
        """Reads its runs.csv and arms.json as they stand.

        Raises:
            UsageError: they were written by a newer regbench, or are damaged.
        """
        return cls(name, results, [*read_rows(results, name).values()], read_settings(results, name), finished)

    @property
    def folder(self) -> Path:
        """Where the tables are, and the figures and the page once they are made."""
        return self.results / self.name

    @property
    def report_command(self) -> str:
        """What to type to report it, in the folder where it was trained."""
        return f"regbench report {self.name}{name_results(self.results)}"

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """The arms of its rows, by arm_id."""
        return read_arms(self.rows, self.settings)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Those of comparison.csv whose arms are among its own."""
        with explaining_damage(self.folder / "comparison.csv"):
            found = [read_comparison(row, self.arms) for row in self.read("comparison")]
        return [each for each in found if each]

    @property
    def places(self) -> "dict[tuple[str, str], Experiment]":
        """The part of it on each dataset and model, in the order of its rows: what compares."""
        rows: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            rows.setdefault((row["dataset"], row["model"]), []).append(row)
        return {place: replace(self, rows=of_place) for place, of_place in rows.items()}

    @property
    def commands(self) -> list[str]:
        """Those that have asked for its runs."""
        return read_commands(self.results, self.name)

    def read(self, table: str) -> list[Row]:
        """The rows of another of its tables as text, such as `history`; none where there is no such file.

        Raises:
            UsageError: it is damaged.
        """
        return read_csv(self.folder / f"{table}.csv")

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
