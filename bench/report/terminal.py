"""What the terminal shows: the plan, a line while a run trains, and the comparison at the end.

Piped into a file it holds no control codes and a line per run; on a terminal one live line tells of the run in
training.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bench import AXES
from bench.escape import escape
from bench.record import arm_id, identity
from bench.report.tables import Row, summarise
from bench.settings import Run

BestOf = Callable[[Sequence[float]], float]

# Column title, metric, factor for print, digits, and which end is best.
_COLUMNS: list[tuple[str, str, float, int, BestOf | None]] = [
    ("accuracy %", "test_accuracy", 100, 2, max),
    ("NLL", "test_nll", 1, 3, min),
    ("ECE %", "test_ece", 100, 2, min),
    ("evals", "gradient_evaluations", 1, 0, None),
    ("secs", "train_seconds", 1, 1, None),
]


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
        settings = [f"{k.rpartition('.')[2]}={v}" for k, v in identity(run).items() if k in telling[str(run.words)]]
        return " ".join([*(run.words[axis] for axis in axes), *settings, f"seed {run.seed}"])

    return [name(run) for run in (among if runs is None else runs)]


def _differing(settings: Sequence[dict[str, Any]]) -> set[str]:
    keys = dict.fromkeys(key for each in settings for key in each)
    return {key for key in keys if len({str(each.get(key)) for each in settings}) > 1}


def tell(console: Console, line: str) -> None:
    """Prints a line as it is, without a break: names and messages may hold what a terminal would act upon."""
    console.print(escape(line), soft_wrap=True, markup=False, highlight=False)


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
    return f"{minutes}:{seconds:02} left, loss {row['train_loss']:.2f}, {accuracy}{images_per_second:,.0f} images/s"


def describe_result(result: dict[str, Any]) -> str:
    """A finished run's outcome on one line."""
    if result["status"] != "done":
        return f"{result['status']}: {_first_line(result['message'])}"
    return (
        f"accuracy {100 * result['test_accuracy']:.2f} %, NLL {result['test_nll']:.4f}, "
        f"ECE {100 * result['test_ece']:.2f} %, {result['train_seconds']:.1f} s"
        + (f" ({_first_line(result['message'])})" if result["message"] else "")
    )


def show_comparison(console: Console, exp: str, rows: Sequence[Row]) -> None:
    """A row per arm, mean ± half of its 95 % interval over seeds, each column's best marked, failures below.

    One table per dataset and model, since arms on different ones do not compare.
    """
    for dataset, model in dict.fromkeys((row["dataset"], row["model"]) for row in rows):
        here = [row for row in rows if (row["dataset"], row["model"]) == (dataset, model)]
        console.print()
        console.print(_comparison(escape(f"{exp}: test results of {model} on {dataset}"), here))
    broken = [row for row in rows if row["status"] != "done"]
    for row in broken:
        name = " ".join([*(row[axis] for axis in AXES), f"seed {row['seed']}"])
        tell(console, f"{row['status']}: {name} ({row['run_id']}): {_first_line(row['message'])}")
    if not rows:
        return
    console.print("Mean over seeds ± half of the 95 % t interval; * is the best mean of its column.")
    console.print("After the last epoch; the test split is read once. evals: gradient evaluations.")


def _comparison(title: str, rows: Sequence[Row]) -> Table:
    arms = summarise(rows)
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    table.add_column("regularizer", overflow="fold")
    table.add_column("optimizer", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    for header, *_ in _COLUMNS:
        table.add_column(header, justify="right", no_wrap=True)
    columns = [_cells(arms, *column[1:]) for column in _COLUMNS]
    shared: dict[tuple[str, ...], set[str]] = {}  # settings of all arms that share the four words
    for arm in arms:
        words, held = tuple(arm[axis] for axis in AXES), set(arm["settings"].split())
        shared[words] = shared.get(words, held) & held
    for index, arm in enumerate(arms):
        telling = [each for each in arm["settings"].split() if each not in shared[tuple(arm[axis] for axis in AXES)]]
        settings = [re.sub(r"^[\w.]+\.(?=\w+=)", "", each) for each in telling]
        name = Text("\n").join(
            [Text(escape(arm["regularizer"])), *(Text(escape(f"  {s}"), style="dim") for s in settings)]
        )
        table.add_row(name, Text(escape(arm["optimizer"])), str(arm["runs"]), *(cells[index] for cells in columns))
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
