"""The files of decoded images, which may be deleted: in REGBENCH_CACHE, else in ~/.cache/regbench."""

import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.text import Text

from bench.disk.files import open_atomically
from bench.machine.home import ensure_home


def cache_path(kind: str, name: str) -> Path:
    """Where the file of that name lies, or will lie, among those of a kind."""
    ensure_home()
    cache = os.environ.get("REGBENCH_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "regbench")
    return Path(cache, kind, name).expanduser()


@contextmanager
def filling(path: Path) -> Iterator[IO[bytes]]:
    """A file of the cache to write, there once it is whole.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomically(path) as file:
        yield file


def keep(path: Path, write: Callable[[IO[bytes]], object]) -> bool:
    """Writes a file of the cache; where that fails, it is said, and the work is done again next time."""
    try:
        with filling(path) as file:
            write(file)
    except OSError as error:
        say_not_kept(path, error)
        return False
    return True


def has_crc(path: Path, crc: int, start: int = 0) -> bool:
    """Whether that is the CRC-32 of a file's bytes from `start` on.

    Raises:
        OSError: it cannot be read.
    """
    found = 0
    with path.open("rb") as file:
        file.seek(start)
        while some := file.read(2**20):
            found = zlib.crc32(some, found)
    return found == crc


def check_disk(path: Path, size: int) -> None:
    """Raises OSError where a file of the cache has no room for so many bytes: before the work, not in its middle."""
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(ENOSPC, os.strerror(ENOSPC), str(path))


def say_not_kept(path: Path, error: OSError) -> None:
    """A line about a file that could not be written."""
    refused = Text(f"{path.parent} cannot be written to ({error.strerror or error}): nothing is cached")
    Console(stderr=True).print(refused, soft_wrap=True)
