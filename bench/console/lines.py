"""Lines on the terminal: printed as they are, or the live one, which stands in place of the last."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.console.escape import escape


class Terminal(Console):
    """Standard output, whose words are not coloured by what they look like."""

    def __init__(self) -> None:
        super().__init__(highlight=False)


def print_line(console: Console, line: str, style: str = "") -> None:
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


def first_line(message: str) -> str:
    """Of what log.txt holds in full: errors of CUDA run to many lines."""
    return (message.splitlines() or [""])[0]
