"""Tables on a terminal and in a pipe: no cell is ever cut, and each line names what it is of.

What is piped takes the width that it needs. On a terminal that is too narrow the columns stand in blocks, one below the
other, each with the names; only where a name leaves no room for a number it breaks, and then after a `+`.
"""

import math
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.console.escape import escape
from bench.console.wrap import wrap_name


def print_table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> None:
    """Prints a table.

    Args:
        console: where to.
        header: the columns' titles.
        rows: their cells; of the first, which names the row, lines that begin with a space are dim.
        names: how many of the first columns every block repeats, and which are flush left.
    """
    room = console.width + 1 if console.is_terminal else math.inf  # nothing is printed behind the last column
    columns = [[title, *cells] for title, *cells in zip(header, *rows, strict=True)]
    widest = max(map(_width, columns[names:]))
    left = room - widest - sum(map(_width, columns[1:names]))
    if _width(columns[0]) > left:
        columns[0] = ["\n".join(_break(cell.split("\n"), int(left) - 1)) for cell in columns[0]]
    for number, block in enumerate(_split(columns, names, room)):
        if number:
            console.print()
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, width=sum(map(_width, block)) - 1)
        for index, (title, *_) in enumerate(block):
            table.add_column(title, justify="left" if index < names else "right", no_wrap=True)
        for name, *others in zip(*(cells for _, *cells in block), strict=True):
            lines = (Text(line, "dim" if line.startswith(" ") else "") for line in escape(name).split("\n"))
            table.add_row(Text("\n").join(lines), *(Text(escape(each)) for each in others))
        console.print(table, crop=False)


def _split(columns: Sequence[list[str]], names: int, room: float) -> list[list[list[str]]]:
    """The columns in blocks that fit, each of which begins with the names."""
    named, blocks = list(columns[:names]), [list(columns[:names])]
    for column in columns[names:]:
        if len(blocks[-1]) > names and sum(map(_width, [*blocks[-1], column])) > room:
            blocks.append(list(named))
        blocks[-1].append(column)
    return blocks


def _break(lines: Sequence[str], width: int) -> list[str]:
    """The lines of a name, those that begin with a space as they are."""
    return [part for line in lines for part in ([line] if line[:1] in ("", " ") else wrap_name(line, width))]


def _width(column: Sequence[str]) -> int:
    """Of a column on a terminal, with the space behind it."""
    return 1 + max(cell_len(line) for cell in column for line in escape(cell).split("\n"))
