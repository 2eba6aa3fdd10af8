"""A function of many files on all cores, in their order, and without more results in memory than a few for each core.

Threads would not do: on small pictures two of them took twice as long as one, in each other's way at the interpreter's
lock.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from PIL import UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from bench.machine.cores import count_cores

CHUNK = 256  # files that a process takes at a time, at most
_FEW = 64  # files that are done sooner than another process would start

R = TypeVar("R")


@dataclass(frozen=True)
class Unread:
    """A picture or file that cannot be read, and why."""

    reason: str


def on_all_cores(
    function: Callable[[str], R], files: Sequence[str], doing: str, most: int = CHUNK
) -> Iterator[R | Unread]:
    """The function of every file, in order, or why the file cannot be read.

    A process takes at most so many files at a time, and there are results of two such chunks for each core at most: in
    work, or waiting to be taken.
    """
    size = max(1, min(CHUNK, most, len(files) // (4 * count_cores())))
    chunks = [files[start : start + size] for start in range(0, len(files), size)]
    console, work = Console(stderr=True), partial(in_turn, function)
    with ExitStack() as stack:
        done: Iterable[list[R | Unread]] = map(work, chunks)
        if len(files) > _FEW:
            pool = ProcessPoolExecutor(count_cores(), get_context("spawn"), _follow_parent)
            stack.callback(pool.shutdown, cancel_futures=True)
            done = _spread(pool, work, chunks, 2 * count_cores())
        if console.is_terminal:
            done = track(done, doing, len(chunks), console=console, transient=True)
        for results in done:
            yield from results


def _spread(
    pool: Executor, work: Callable[[Sequence[str]], R], chunks: Iterable[Sequence[str]], most: int
) -> Iterator[R]:
    """As `pool.map`, with at most so many chunks handed out whose results are not taken."""
    coming: deque[Future[R]] = deque()
    for chunk in chunks:
        if len(coming) == most:
            yield coming.popleft().result()
        coming.append(pool.submit(work, chunk))
    while coming:
        yield coming.popleft().result()


def in_turn(function: Callable[[str], R], files: Sequence[str]) -> list[R | Unread]:
    """The function of every file, in this process."""
    return [try_read(function, file) for file in files]


def try_read(function: Callable[[str], R], file: str) -> R | Unread:
    """The function of a file, or why the file cannot be read."""
    try:
        return function(file)
    except Exception as error:  # Pillow's decoders raise nearly every kind
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        reason = "no picture that Pillow knows" if isinstance(error, UnidentifiedImageError) else reason
        return Unread(reason.splitlines()[0][:150])


def _follow_parent() -> None:
    """A process of the pool leaves Ctrl-C and SIGHUP to its parent, and ends with it however that dies."""
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def end() -> None:
        parent.join()
        os._exit(1)

    Thread(target=end, daemon=True).start()
