"""What the terminal shows: the plan, a line while a run trains, and the comparison at the end.

Piped into a file it holds no control codes and a line per run; on a terminal one live line tells of the run in
training.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bench import AXES
from bench.report.tables import Row, summarise

BestOf = Callable[[Sequence[float]], float]

# Column title, metric, factor for print, digits, and which end is best.
_COLUMNS: list[tuple[str, str, float, int, BestOf | None]] = [
    ("accuracy %", "test_accuracy", 100, 2, max),
    ("NLL", "test_nll", 1, 3, min),
    ("ECE %", "test_ece", 100, 2, min),
    ("evals", "gradient_evaluations", 1, 0, None),
    ("secs", "train_seconds", 1, 1, None),
]


def show_plan(console: Console, exp: str, words: Sequence[dict[str, str]], arms: int, seeds: int, done: int) -> None:
    """What is about to run: how many of what, and how many are on record already."""
    counts = ((len({run[axis] for run in words}), axis) for axis in AXES)
    product = ", ".join(_count(n, axis) for n, axis in [*counts, (arms, "arm"), (seeds, "seed")])
    console.print(f"{exp}: {_count(len(words), 'run')}, {done} on record, {len(words) - done} to train")
    console.print(f"({product})")


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
    return f"{minutes}:{seconds:02} left, loss {row['train_loss']:.2f}, {accuracy}{images_per_second:,.0f} images/s"


def describe_result(result: dict[str, Any]) -> str:
    """A finished run's outcome on one line."""
    if result["status"] != "done":
        return f"{result['status']}: {_first_line(result['message'])}"
    return (
        f"accuracy {100 * result['test_accuracy']:.2f} %, NLL {result['test_nll']:.4f}, "
        f"ECE {100 * result['test_ece']:.2f} %, {result['train_seconds']:.1f} s"
    )


def show_comparison(console: Console, exp: str, rows: Sequence[Row]) -> None:
    """A row per arm, mean ± half of its 95 % interval over seeds, each column's best marked, failures below.

    One table per dataset and model, since arms on different ones do not compare.
    """
    for dataset, model in dict.fromkeys((row["dataset"], row["model"]) for row in rows):
        here = [row for row in rows if (row["dataset"], row["model"]) == (dataset, model)]
        console.print()
        console.print(_comparison(f"{exp}: test results of {model} on {dataset}", here))
    broken = [row for row in rows if row["status"] != "done"]
    for row in broken:
        name = " ".join([*(row[axis] for axis in AXES), f"seed {row['seed']}"])
        console.print(
            f"{row['status']}: {name} ({row['run_id']}): {_first_line(row['message'])}", soft_wrap=True, markup=False
        )
    console.print("Mean over seeds ± half of the 95 % t interval; * is the best mean of its column.")
    console.print("After the last epoch; the test split is read once. evals: gradient evaluations.")


def _comparison(title: str, rows: Sequence[Row]) -> Table:
    arms = summarise(rows)
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    table.add_column("regularizer", overflow="fold")
    table.add_column("optimizer", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    for header, *_ in _COLUMNS:
        table.add_column(header, justify="right", no_wrap=True)
    columns = [_cells(arms, *column[1:]) for column in _COLUMNS]
    for index, arm in enumerate(arms):
        like = [set(other["settings"].split()) for other in arms if all(other[axis] == arm[axis] for axis in AXES)]
        telling = [each for each in arm["settings"].split() if each not in set.intersection(*like)]
        settings = [re.sub(r"^[\w.]+\.(?=\w+=)", "", each) for each in telling]
        name = Text("\n").join([Text(arm["regularizer"]), *(Text(f"  {setting}", style="dim") for setting in settings)])
        table.add_row(name, arm["optimizer"], str(arm["runs"]), *(cells[index] for cells in columns))
    return table


def _cells(
    arms: Sequence[dict[str, Any]], metric: str, factor: float, digits: int, best_of: BestOf | None
) -> list[Text]:
    means = [arm[f"{metric}_mean"] for arm in arms if f"{metric}_mean" in arm]
    best = best_of(means) if best_of and means else None
    cells = []
    for arm in arms:
        mean, high = arm.get(f"{metric}_mean"), arm.get(f"{metric}_high")
        text = "" if mean is None else f"{factor * mean:.{digits}f}"
        if best_of and high is not None:
            text += f"±{factor * (high - mean):.{digits}f}"
        marked = mean is not None and mean == best
        cells.append(Text(f"{text}{'*' if marked else ' '}" if best_of else text, style="bold" if marked else ""))
    return cells


def _first_line(message: str) -> str:
    """Of what log.txt holds in full: errors of CUDA run to many lines."""
    return (message.splitlines() or [""])[0]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"
