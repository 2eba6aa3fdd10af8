"""A sweep's runs and what becomes of them, in a line each."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from bench.config import AXES
from bench.config.identity import arm_id, identity, shorten
from bench.config.settings import Run
from bench.console.lines import first_line, print_line
from bench.measure.quantities import format_number
from bench.status import Status
from bench.sweep.plan import Planned


def show_counts(console: Console, exp: str, plan: Sequence[Planned], todo: Sequence[Planned]) -> None:
    """What a command asks for: how many of what, how many are on record already, and what is to be done."""
    runs, measured = [planned.run for planned in plan], sum(planned.is_trained for planned in todo)
    counts = [(len({run.words[axis] for run in runs}), axis) for axis in AXES]
    counts += [(len({arm_id(run) for run in runs}), "arm"), (len({run.seed for run in runs}), "seed")]
    left = f"{len(todo) - measured} to train" + f", {measured} to measure" * (measured > 0)
    print_line(console, f"{exp}: {_count(len(runs), 'run')}, {len(runs) - len(todo)} on record, {left}")
    console.print(f"({', '.join(_count(n, noun) for n, noun in counts)})")


def name_runs(among: Sequence[Run], runs: Sequence[Run] | None = None, whole: bool = False) -> list[str]:
    """A name for each of `runs` (by default all): its arm's as by `name_arms`, and the seed."""
    runs = among if runs is None else runs
    names = zip(name_arms(among, runs, whole), runs, strict=True)
    return [" ".join(filter(None, [arm, f"seed {run.seed}"])) for arm, run in names]


def name_arms(among: Sequence[Run], runs: Sequence[Run], whole: bool = False) -> list[str]:
    """A name for the arm of each of `runs`: the words and settings that tell runs `among` apart.

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
        return " ".join([*(run.words[axis] for axis in axes), *short])

    return [name(run) for run in runs]


def _differing(settings: Sequence[dict[str, Any]]) -> set[str]:
    keys = dict.fromkeys(key for each in settings for key in each)
    return {key for key in keys if len({str(each.get(key)) for each in settings}) > 1}


def describe_epoch(row: dict[str, Any], images_per_second: float, seconds_left: float) -> str:
    """The live line's part on the last epoch."""
    accuracy = f"val {100 * row['val_accuracy']:.1f} %, " if "val_accuracy" in row else ""
    minutes, seconds = divmod(round(seconds_left), 60)
    text = f"{minutes}:{seconds:02} left, loss {format_number(row['train_loss'], 2)}"
    return f"{text}, {accuracy}{images_per_second:,.0f} images/s"


def describe_result(result: dict[str, Any], split: str = "test") -> str:
    """A finished run's outcome on one line: its metrics of a split."""
    if result["status"] != Status.DONE:
        return f"{result['status']}: {first_line(result['message'])}"
    accuracy, nll, ece = (result[f"{split}_{metric}"] for metric in ("accuracy", "nll", "ece"))
    of_split = "" if split == "test" else f"{split} "
    return (
        f"{of_split}accuracy {100 * accuracy:.2f} %, {of_split}NLL {format_number(nll, 4)}, "
        f"{of_split}ECE {100 * ece:.2f} %, {result['train_seconds']:.1f} s"
        + (f" ({first_line(result['message'])})" if result["message"] else "")
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"
