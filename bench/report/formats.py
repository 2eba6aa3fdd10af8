"""The comparison as CSV, Markdown, LaTeX and HTML."""

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bench.config import AXES
from bench.disk.files import to_csv
from bench.measure.quantities import COSTS
from bench.report.cells import BETTER, HOLLOW, OTHER, WORSE, Cell
from bench.report.layout import Layout, Line


@dataclass(frozen=True)
class Grid:
    """A table for HTML: per cell its text and what to sort it by, None for words, NaN where there is no number.

    With `arms` each row says of which arm it is.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[tuple[str, float | None]]]
    arms: Sequence[str] = ()

    def columns(self, numbers: Sequence[int]) -> "Grid":
        """Some of its columns."""
        return Grid([self.header[i] for i in numbers], [[row[i] for i in numbers] for row in self.rows], self.arms)


def to_markdown(layouts: Sequence[Layout]) -> str:
    """Pipe tables, with the protocol above and the notes below each."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(re.sub(r"([|<*`])", r"\\\1", cell) for cell in cells) + " |"

    parts = []
    for layout in layouts:
        ruler = line([":---" if title in AXES else "---:" for title in layout.header])
        body = [line([_name(each), each.optimizer, each.seeds, *map(str, each.cells)]) for each in layout.lines]
        table = "\n".join([line(layout.header), ruler, *body])
        parts.append(f"**{layout.title}**: {layout.protocol}.\n\n{table}\n\n{' '.join(layout.notes)}\n")
    return "\n".join(parts)


def to_latex(layouts: Sequence[Layout]) -> str:
    """A table environment each, for `\\usepackage{booktabs}` and nothing else."""
    return "\n".join(map(_latex, layouts))


def to_html(layouts: Sequence[Layout]) -> str:
    """A table element each, with its caption."""
    return "\n".join(map(_html, layouts))


def to_plain_csv(layouts: Sequence[Layout]) -> str:
    """Every number in full: of each metric that is shown the arm's statistics, and its difference to the baseline."""
    shown = [quantity.column for layout in layouts[:1] for quantity in layout.quantities]
    parts: dict[str, tuple[str, ...]] = dict.fromkeys(shown, ("mean", "std", "low", "high", "difference", "p_holm"))
    parts |= dict.fromkeys(COSTS, ("mean", "std", "low", "high"))
    columns = [f"{column}_{part}" for column, each in parts.items() for part in each]
    words = ["exp", *AXES, "settings", "arm_id", "baseline", "runs", "failed", "diverged"]
    rows = [line.arm | {"exp": layout.exp, "protocol": layout.protocol} for layout in layouts for line in layout.lines]
    return to_csv([*words, *columns, "protocol"], rows)


_MARKS = {  # what LaTeX has without a package: double where both noises are exceeded
    **{BETTER: r"\Uparrow", WORSE: r"\Downarrow", OTHER: r"\neq"},
    **{HOLLOW[BETTER]: r"\uparrow", HOLLOW[WORSE]: r"\downarrow"},
}

FORMATS: dict[str, Callable[[Sequence[Layout]], str]] = {
    "csv": to_plain_csv,
    "markdown": to_markdown,
    "latex": to_latex,
    "html": to_html,
}


def _name(line: Line) -> str:
    return " ".join([line.regularizer, *line.settings])


def _latex(layout: Layout) -> str:
    def row(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    body = []
    for line in layout.lines:
        cells = [_number(cell) + (f"$^{{{_MARKS[cell.mark]}}}$" if cell.mark else "") for cell in line.cells]
        body.append(row([*map(_escape, (_name(line), line.optimizer, line.seeds)), *cells]))
    caption = _escape(f"{layout.title}: {layout.protocol}. {' '.join(layout.notes)}")
    for mark, symbol in _MARKS.items():
        caption = caption.replace(mark, f"${symbol}$")
    columns = "".join("l" if title in AXES else "r" for title in layout.header)
    lines = [
        "% \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        row([_escape(title) for title in layout.header]),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _number(cell: Cell) -> str:
    """A cell as LaTeX, but for its mark; a huge number with a power of ten."""
    mean, half = (re.sub(r"e\+0*(\d+)", r" \\times 10^{\1}", text) for text in (cell.mean, cell.half))
    if cell.above:
        return rf"${mean}^{{+{cell.above}}}_{{-{half}}}$"
    if half:
        return rf"${mean} \pm {half}$"
    return _escape(mean) if mean == cell.mean else f"${mean}$"


def _escape(text: str) -> str:
    """Text as LaTeX; what one of its characters means is taken from it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"±": r"$\pm$", "<": "$<$", ">": "$>$", "`": "", "|": r"\textbar{}"}
    return re.sub(r"[\\~^±<>`|]|[&%$#_{}]", lambda match: special.get(match[0], f"\\{match[0]}"), text)


def _html(layout: Layout) -> str:
    grid = make_grid(layout)
    return html_table(grid, f"{layout.title}: {layout.protocol}. {' '.join(layout.notes)}")


def make_grid(layout: Layout) -> Grid:
    """The layout's cells with the values that they are sorted by."""
    rows = []
    for line in layout.lines:
        words = [(_name(line), None), (line.optimizer, None), (line.seeds, float(line.arm["runs"]))]
        rows.append([*words, *((str(cell), cell.value) for cell in line.cells)])
    return Grid(layout.header, rows)


def html_table(grid: Grid, caption: str = "") -> Markup:
    """A table element; each cell holds its column's title, for pages too narrow for a table, and what to sort by."""
    escape = html.escape

    def cell(title: str, text: str, value: float | None) -> str:
        number = ' class="number"' if value is not None else ""
        sort = f' data-sort="{value:.9g}"' if value is not None and value == value else ""
        return f'<td data-title="{escape(title)}"{number}{sort}>{escape(text)}</td>'

    numbers = [value is not None for _, value in grid.rows[0]] if grid.rows else [False] * len(grid.header)
    head = "".join(
        f'<th scope="col"{" class=number" * number}>{escape(title)}</th>'
        for title, number in zip(grid.header, numbers, strict=True)
    )
    rows = ("".join(cell(title, *each) for title, each in zip(grid.header, row, strict=True)) for row in grid.rows)
    starts = [f'<tr data-arm="{escape(arm_id)}">' for arm_id in grid.arms] or ["<tr>"] * len(grid.rows)
    body = "\n".join(f"{start}{row}</tr>" for start, row in zip(starts, rows, strict=True))
    parts = [f"<caption>{escape(caption)}</caption>"] * bool(caption)
    parts += [f"<thead><tr>{head}</tr></thead>", f"<tbody>\n{body}\n</tbody>"]
    return Markup("\n".join(["<table>", *parts, "</table>\n"]))  # all that varies is escaped above
