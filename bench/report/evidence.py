"""What `regbench report` writes beside the tables: those that need logits, the figures, and the page."""

from collections.abc import Sequence
from pathlib import Path

from bench.report.figures import Tables, write_figures
from bench.report.logit_tables import write_logit_tables
from bench.report.page import write_page
from bench.report.tables import Row, read_csv

_MOST_ARMS = 150  # more cannot be told apart in a figure


def write_evidence(results: Path, exp: str, rows: Sequence[Row]) -> None:
    """Writes reliability.csv, test_set.csv, figures/ and report.html of an experiment whose tables are up to date."""
    folder = results / exp
    write_logit_tables(results, exp, rows)
    history, comparison, reliability = (
        read_csv(folder / f"{name}.csv") for name in ("history", "comparison", "reliability")
    )
    few = len({row["arm_id"] for row in rows}) <= _MOST_ARMS
    told = Tables(rows if few else [], comparison, history, reliability)
    write_page(results, exp, rows, write_figures(folder / "figures", told))
