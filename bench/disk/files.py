"""Files that are written whole or not at all, and CSV as text.

What is promised: whoever reads finds the old file or the new one, whole, whenever a process dies. A run's record is on
the disk, too, once it is announced: it outlives a power cut. Of the other files, which can be made again, a power cut
may leave the old one.
"""

import csv
import io
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from bench.console.escape import to_utf8
from bench.disk.gone import names_in, remove, unless_gone

_STALE_SECONDS = 24 * 3600  # a part is being written for minutes at most

Write = Callable[[IO[bytes]], object]  # writes a file's content


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all."""
    with open_atomically(path) as file:
        file.write(to_utf8(content) if isinstance(content, str) else content)


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its name when it is whole; its folder is made if need be, but none above it."""
    with _part_of(path) as part, _naming(path):
        with part.open("wb") as file:
            yield file
            _flush(file)
        part.replace(path)


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """A name beside `path` that no other process has, also none on another machine; what lies there is removed."""
    path.parent.mkdir(exist_ok=True)
    _remove_stale_parts(path.parent)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield part
    finally:
        remove(part)


def _fill(part: Path, path: Path, write: Write) -> None:
    with _naming(path), part.open("wb") as file:
        write(file)
        _flush(file)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A full disk does not say which file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _flush(file: IO[bytes]) -> None:
    """Has a file's content on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Has a folder's names on the disk, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    with suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)


def write_together(
    folder: Path, files: Mapping[str, Write | None], last: str, may_write: Callable[[], None] = lambda: None
) -> None:
    """Replaces files of a folder by others that belong together, so that one of them stands for all.

    All are written beside first, which is where a full disk stops it and nothing has changed; then the old file `last`
    goes, the others take their names, and the new one comes last. It holds when a process dies and, as files and folder
    are flushed, when the power fails.

    Args:
        folder: made if need be.
        files: by name, what writes each; None: there is none, and an old one is removed.
        last: the one without which the others do not count.
        may_write: called before anything is replaced; raises where nothing may be.
    """
    with ExitStack() as parts:
        written: dict[str, Path] = {}
        for name, write in files.items():
            if write:
                written[name] = parts.enter_context(_part_of(folder / name))
                _fill(written[name], folder / name, write)
        may_write()
        remove(folder / last)
        for name in sorted(files, key=lambda name: name == last):
            if name in written:
                written[name].replace(folder / name)
            else:
                remove(folder / name)
        _flush_folder(folder)
        _flush_folder(folder.parent)  # which has the folder's own name


def remove_parts(folder: Path) -> None:
    """Removes what processes that died left half-written; for who holds the folder's lock."""
    for part in _parts_in(folder):
        remove(part)


def _parts_in(folder: Path) -> list[Path]:
    return [folder / name for name in names_in(folder) if name.startswith(".") and name.endswith(".part")]


def _remove_stale_parts(folder: Path) -> None:
    """The same for who holds none: what nobody has written to for a day."""
    for part in _parts_in(folder):
        status = unless_gone(part.stat)
        if status and time.time() - status.st_mtime > _STALE_SECONDS:
            remove(part)


def to_csv(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV: floats in full, an empty cell for None or a missing key."""
    columns = list(columns)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
