"""How a command ends: its exit code, what it says where it could not do what it was asked for, and how fast it goes."""

import signal
import sys
from collections.abc import Callable

from bench.console.escape import escape
from bench.errors import UsageError

_INTERRUPTED = "interrupted; what is finished is kept, and the same command does the rest"


def exit_code(act: Callable[[], int]) -> int:
    """What `act` returns; else 2 for bad input, or 128 and the signal that interrupted it, and it is said why."""
    try:
        return act()
    except (Exception, KeyboardInterrupt) as error:
        if _interrupted(error):
            print(f"regbench: {_INTERRUPTED}", file=sys.stderr)
            # The error's own signal; Ctrl-C where a library hid it.
            return 128 + int(getattr(error, "signal", signal.SIGINT))
        bad_input = error if isinstance(error, UsageError) else _blame_a_file(error)
        if bad_input is None:
            raise
        print(f"regbench: {escape(str(bad_input))}", file=sys.stderr)
        return 2


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: libraries that are interrupted may raise one of their own over it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _blame_a_file(error: BaseException) -> UsageError | None:
    """What is wrong with a file, of commands that read; the others say more."""
    if isinstance(error, OSError) and error.filename:
        return UsageError(f"{error.filename} cannot be read or written: {error.strerror}.")
    if isinstance(error, UnicodeEncodeError):  # a name in a file of settings
        name = f"{error.object} cannot be a file's name in this locale, whose encoding is {error.encoding}"
        return UsageError(f"{name}.\nTake one of UTF-8: LC_ALL=C.UTF-8")
    return None
