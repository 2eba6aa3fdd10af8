"""What the terminal shows: the plan, a line while a run trains, and the comparison at the end.

Piped into a file it holds no control codes and a line per run; on a terminal one live line tells of the run in
training.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench import AXES
from bench.escape import escape
from bench.quantities import format_number
from bench.record import arm_id, identity, shorten
from bench.report.blocks import print_table
from bench.report.layout import Layout
from bench.report.tables import Row
from bench.settings import Run


class Terminal(Console):
    """Standard output, whose words are not coloured by what they look like."""

    def __init__(self) -> None:
        super().__init__(highlight=False)


def show_counts(console: Console, exp: str, runs: Sequence[Run], done: int) -> None:
    """What a command asks for: how many of what, and how many are on record already."""
    counts = [(len({run.words[axis] for run in runs}), axis) for axis in AXES]
    counts += [(len({arm_id(run) for run in runs}), "arm"), (len({run.seed for run in runs}), "seed")]
    tell(console, f"{exp}: {_count(len(runs), 'run')}, {done} on record, {len(runs) - done} to train")
    console.print(f"({', '.join(_count(n, noun) for n, noun in counts)})")


def name_runs(among: Sequence[Run], runs: Sequence[Run] | None = None, whole: bool = False) -> list[str]:
    """A name for each of `runs` (by default all): the words and settings that tell runs `among` apart, and the seed.

    With `whole` it has all words.
    """
    axes = [axis for axis in AXES if whole or len({run.words[axis] for run in among}) > 1]
    like: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in among:
        like[str(run.words)].append(identity(run))
    telling = {words: _differing(settings) - {"seed"} for words, settings in like.items()}

    def name(run: Run) -> str:
        settings = [f"{key}={value}" for key, value in identity(run).items() if key in telling[str(run.words)]]
        short = shorten(settings, run.words["regularizer"])
        return " ".join([*(run.words[axis] for axis in axes), *short, f"seed {run.seed}"])

    return [name(run) for run in (among if runs is None else runs)]


def _differing(settings: Sequence[dict[str, Any]]) -> set[str]:
    keys = dict.fromkeys(key for each in settings for key in each)
    return {key for key in keys if len({str(each.get(key)) for each in settings}) > 1}


def tell(console: Console, line: str, style: str = "") -> None:
    """Prints a line as it is, without a break: names and messages may hold what a terminal would act upon."""
    console.print(Text(escape(line)), style=style, soft_wrap=True)  # a plain str loses [brackets] and :words:


def describe_seconds(seconds: float) -> str:
    """A duration: 42 s, 3:20 min, 2:05 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    unit, per = ("h", 3600) if seconds >= 6000 else ("min", 60)
    whole, rest = divmod(round(seconds * 60 / per), 60)
    return f"{whole}:{rest:02} {unit}"


@contextmanager
def live_line(console: Console) -> Iterator[Callable[[str], None]]:
    """A function that shows a line in place of its last one; where nobody watches, it shows nothing."""
    if not console.is_terminal:
        yield lambda line: None
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield lambda line: live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)


def describe_epoch(row: dict[str, Any], images_per_second: float, seconds_left: float) -> str:
    """The live line's part on the last epoch."""
    accuracy = f"val {100 * row['val_accuracy']:.1f} %, " if "val_accuracy" in row else ""
    minutes, seconds = divmod(round(seconds_left), 60)
    told = f"{minutes}:{seconds:02} left, loss {format_number(row['train_loss'], 2)}"
    return f"{told}, {accuracy}{images_per_second:,.0f} images/s"


def describe_result(result: dict[str, Any]) -> str:
    """A finished run's outcome on one line."""
    if result["status"] != "done":
        return f"{result['status']}: {_first_line(result['message'])}"
    return (
        f"accuracy {100 * result['test_accuracy']:.2f} %, NLL {format_number(result['test_nll'], 4)}, "
        f"ECE {100 * result['test_ece']:.2f} %, {result['train_seconds']:.1f} s"
        + (f" ({_first_line(result['message'])})" if result["message"] else "")
    )


def show_comparison(console: Console, layouts: Sequence[Layout], rows: Sequence[Row]) -> None:
    """A row per arm, one table per dataset and model, and below them what did not finish."""
    for layout in layouts:
        console.print()
        tell(console, layout.title, style="bold")
        console.print(Text(escape(layout.protocol)))
        print_table(console, layout.header, _arrange(layout), names=2)
        for note in layout.notes:
            console.print(Text(escape(note)))
    for row in rows:
        if row["status"] != "done":
            name = " ".join([*(row[axis] for axis in AXES), f"seed {row['seed']}"])
            tell(console, f"{row['status']}: {name} ({row['run_id']}): {_first_line(row['message'])}")


def _arrange(layout: Layout) -> list[list[str]]:
    """The cells of each line, its settings below its regularizer; numbers stand below one another, marks aside."""
    marked = [any(cell.mark for cell in column) for column in zip(*(line.cells for line in layout.lines), strict=True)]
    rows = []
    for line in layout.lines:
        name = "\n".join([line.regularizer, *(f"  {each}" for each in line.settings)])
        numbers = [f"{cell}{' ' * (mark and not cell.mark)}" for cell, mark in zip(line.cells, marked, strict=True)]
        rows.append([name, line.optimizer, line.seeds, *numbers])
    return rows


def _first_line(message: str) -> str:
    """Of what log.txt holds in full: errors of CUDA run to many lines."""
    return (message.splitlines() or [""])[0]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"
