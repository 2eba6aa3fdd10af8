"""Makes the golden tables in tests/golden anew from the records beside them: python scripts/remake_golden.py

The records are those of two real commands, less their logits and logs:
    regbench run +exp=digits_smoke results_dir=tests/golden seed=0,1,2
    regbench run +exp=digits_smoke results_dir=tests/golden regularizer=none seed=0 optimizer.sgd.lr=1e30
"""

from pathlib import Path

from rich.console import Console

from bench.record import tables
from bench.record.experiment import Experiment
from bench.report import terminal
from bench.report.formats import FORMATS
from bench.report.layout import make_tables

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"


def remake(folder: Path) -> None:
    """Writes the tables, and the comparison as it prints at 80 and 160 columns and in every format."""
    rows = tables.write_tables(folder, "digits_smoke")
    layouts = make_tables(Experiment("digits_smoke", folder, rows, tables.read_settings(folder, "digits_smoke")))
    for width in (80, 160):
        with (folder / f"comparison_{width}.txt").open("w", encoding="utf-8") as file:
            terminal.show_comparison(Console(file=file, width=width, highlight=False), layouts, rows)
    for name, write in FORMATS.items():
        (folder / f"comparison.{name}").write_text(write(layouts), "utf-8")


if __name__ == "__main__":
    remake(GOLDEN)
