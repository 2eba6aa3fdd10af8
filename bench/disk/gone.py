"""Files that another process may replace or remove at any moment, here or on another machine of the network.

Who finds such a file gone looks again, or does without it. On NFS that has an error of its own: ESTALE, where a local
disk gives the new file, or ENOENT.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_LOOKS = 3

T = TypeVar("T")


def is_gone(error: BaseException) -> bool:
    """Whether an error says that a file, or a folder above it, is not there, or no longer."""
    gone = isinstance(error, FileNotFoundError | NotADirectoryError)
    return gone or (isinstance(error, OSError) and error.errno == errno.ESTALE)


def look_again(act: Callable[[], T], is_worth_it: Callable[[OSError], bool] = is_gone) -> T:
    """What `act` returns; it is called again where it raises that something is gone, but not for ever."""
    for _ in range(_LOOKS - 1):
        try:
            return act()
        except OSError as error:
            if not is_worth_it(error):
                raise
    return act()


def unless_gone(act: Callable[[], T]) -> T | None:
    """What `act` returns, or None where what it needs is gone."""
    try:
        return look_again(act, lambda error: error.errno == errno.ESTALE)  # what replaced a file is there
    except OSError as error:
        if not is_gone(error):
            raise
        return None


def read_if_there(path: Path) -> bytes | None:
    """A file's content, None where there is no such file."""
    return unless_gone(path.read_bytes)


def is_file(path: Path) -> bool:
    """Whether there is a file: Path.is_file raises ESTALE."""
    status = unless_gone(path.stat)
    return status is not None and stat.S_ISREG(status.st_mode)


def names_in(folder: Path) -> list[str]:
    """What a folder holds, by name; nothing where there is no folder."""
    names = unless_gone(lambda: os.listdir(folder))  # noqa: PTH208  Path.iterdir is slower, and plans ask for each run
    return sorted(names or [])


def remove(path: Path) -> None:
    """Removes a file, if it is there."""
    unless_gone(path.unlink)


def remove_folder(path: Path) -> None:
    """Removes a folder, if it is there, also where others remove files of it."""
    if os.path.lexists(path):
        look_again(lambda: shutil.rmtree(path))
