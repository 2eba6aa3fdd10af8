"""What the terminal shows: the plan, a line while a run trains, and the comparison at the end.

Piped into a file it holds no control codes and a line per run; on a terminal one live line shows the run in
training.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from bench.config import AXES
from bench.console.blocks import print_table
from bench.console.escape import escape
from bench.console.lines import first_line, print_line
from bench.record.tables import Row
from bench.report.layout import Layout
from bench.status import Status


def show_comparison(console: Console, layouts: Sequence[Layout], rows: Sequence[Row]) -> None:
    """A row per arm, one table per dataset and model, and below them what did not finish."""
    for layout in layouts:
        console.print()
        print_line(console, layout.title, style="bold")
        console.print(Text(escape(layout.protocol)))
        print_table(console, layout.header, _arrange(layout), names=2)
        for note in layout.notes:
            console.print(Text(escape(note)))
    for row in rows:
        if row["status"] != Status.DONE:
            name = " ".join([*(row[axis] for axis in AXES), f"seed {row['seed']}"])
            print_line(console, f"{row['status']}: {name} ({row['run_id']}): {first_line(row['message'])}")


def _arrange(layout: Layout) -> list[list[str]]:
    """The cells of each line, its settings below its regularizer; numbers stand below one another, marks aside."""
    marked = [any(cell.mark for cell in column) for column in zip(*(line.cells for line in layout.lines), strict=True)]
    rows = []
    for line in layout.lines:
        name = "\n".join([line.regularizer, *(f"  {each}" for each in line.settings)])
        numbers = [f"{cell}{' ' * (mark and not cell.mark)}" for cell, mark in zip(line.cells, marked, strict=True)]
        rows.append([name, line.optimizer, line.seeds, *numbers])
    return rows
