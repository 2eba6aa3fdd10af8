"""What the process that started a sweep does beside it: prints each run that is recorded, and rewrites the tables."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console

from bench.console.lines import print_line
from bench.errors import UsageError
from bench.record import tables
from bench.record.folder import run_folder
from bench.record.probes import read_numbers
from bench.status import Status
from bench.sweep.describe import describe_result, name_runs
from bench.sweep.fail_fast import FailFast
from bench.sweep.plan import Command, Planned

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_TABLES = 30.0
_SHARE = 20  # looking and writing take one part in so many of the time


class Watch:
    """Looks for records of the runs to train, whoever writes them."""

    def __init__(
        self, console: Console, command: Command, todo: Sequence[Planned], show: Callable[[str], None]
    ) -> None:
        self.console, self.command, self.show = console, command, show
        self.fail_fast = FailFast(command.results) if command.fail_fast else None
        names = name_runs([planned.run for planned in todo], whole=True)
        self.names = {planned.run_id: name for planned, name in zip(todo, names, strict=True)}
        self.left = {planned.run_id: planned for planned in todo}
        self.waiting: Mapping[str, str] = {}
        self.up_to_date = True  # the tables, at the end

    def watch_until(self, over: threading.Event) -> None:
        """Looks again and again."""
        pause, written, cost = _SECONDS_BETWEEN_LOOKS, time.monotonic(), 0.0
        while not over.wait(pause):
            started = time.monotonic()
            # A full disk, or a network that is away, may be back the next time; damaged tables may be mended.
            with suppress(OSError, UsageError):
                self.look()
                pause = max(_SECONDS_BETWEEN_LOOKS, _SHARE * (time.monotonic() - started))
                if time.monotonic() - written > max(_SECONDS_BETWEEN_TABLES, _SHARE * cost):
                    started = time.monotonic()
                    tables.write_tables(self.command.results, self.command.exp)
                    written = time.monotonic()
                    cost = written - started

    def look(self) -> None:
        """Prints a line for each run that was recorded since the last look."""
        for identifier, planned in list(self.left.items()):
            result = planned.read_new_record(self.command.results)
            if result:
                del self.left[identifier]
                if self.fail_fast and result["status"] == Status.FAILED:  # maybe another sweep's
                    self.fail_fast.note()
                measured = read_numbers(run_folder(self.command.results, identifier), result)
                result |= measured
                if not self.console.is_terminal or result["status"] != Status.DONE or "message" in measured:
                    place = f"[{self._done()}/{len(self.names)}]"
                    self.print_line(f"{place} {self.names[identifier]}: {describe_result(result, self.command.shown)}")
        if not self.command.launcher.in_process:
            self.show(f"{self._done()} of {len(self.names)} runs recorded")

    def _done(self) -> int:
        return len(self.names) - len(self.left)

    def print_line(self, line: str) -> None:
        """Prints a line."""
        print_line(self.console, line)

    def print_waiting(self, owners: Mapping[str, str]) -> None:
        """Tells who holds the runs that are left, when that changes."""
        self.show(f"waiting for {len(owners)} runs in training elsewhere")
        for identifier, owner in owners.items():
            if self.waiting.get(identifier) != owner:
                self.print_line(f"in training elsewhere: {self.names[identifier]}: {owner}")
        self.waiting = owners


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Within it `watch` is at work; at the end, also of an interrupted sweep, the tables are up to date."""
    over = threading.Event()
    thread = threading.Thread(target=watch.watch_until, args=(over,), daemon=True)
    thread.start()
    over_by_itself = False
    try:
        yield
        over_by_itself = True
    finally:
        over.set()
        thread.join()
        try:
            watch.look()
            tables.write_tables(watch.command.results, watch.command.exp)
        except (OSError, UsageError) as error:
            watch.up_to_date = False
            watch.print_line(
                f"the tables could not be written: {str(error).rstrip('.')}. `regbench report` makes them."
            )
        # Jobs of a cluster may wait when the sweep is stopped: they must see that one has failed.
        if watch.fail_fast and (over_by_itself or watch.command.launcher.shares):
            watch.fail_fast.forget()
