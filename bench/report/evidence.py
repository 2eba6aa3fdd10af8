"""What `regbench report` writes beside the tables: the figures and the page."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.record.tables import Row, read_csv
from bench.report.figure.figures import Tables, remove_others, write_figures
from bench.report.page import write_page

_MOST_ARMS = 150  # of a dataset and model; more cannot be told apart in a figure


def write_evidence(
    results: Path, exp: str, rows: Sequence[Row], tell: Callable[[str], None] = lambda line: None
) -> None:
    """Writes figures/ and report.html of an experiment whose tables are up to date; `tell` is told what is drawn."""
    folder = results / exp
    history, comparison, reliability, ensemble = (
        read_csv(folder / f"{name}.csv") for name in ("history", "comparison", "reliability", "ensemble")
    )
    arms: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        arms[row["dataset"], row["model"]].add(row["arm_id"])
    drawn = [row for row in rows if len(arms[row["dataset"], row["model"]]) <= _MOST_ARMS]
    figures = write_figures(folder / "figures", Tables(drawn, comparison, history, reliability, ensemble), tell)
    remove_others(folder / "figures", figures)
    write_page(results, exp, rows, figures)
