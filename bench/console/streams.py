"""Standard output and error of a command: neither a character nor a terminal that has gone ends it.

What the terminal's encoding lacks is shown by a character that looks like it, one for one, so that tables stay in line.
A reader that stops early (`| head`) and a connection that drops are no errors of what goes on meanwhile.
"""

import codecs
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, cast

_ALIKE = {"▲": "^", "▼": "v", "△": "/", "▽": "\\", "±": "~", "≠": "#", "≤": "<", "…": ".", "–": "-", "−": "-", "×": "x"}
_GONE = (errno.EIO, errno.EPIPE, errno.ENXIO)


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_ALIKE.get(char, "?") for char in error.object[error.start : error.end]), error.end


codecs.register_error("regbench", _replace)


class _Lasting:
    """A stream whose terminal or reader may go: what is written from then on goes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._let_go(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._let_go(error)

    def _let_go(self, error: OSError) -> None:
        if error.errno not in _GONE:
            error.filename = error.filename or getattr(self._stream, "name", None)
            raise error
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting() -> Iterator[None]:
    """Within it standard output and error are such streams; those that were closed go nowhere, too."""
    before = sys.stdout, sys.stderr
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        streams = [stream or nowhere for stream in before]  # None: `>&-`
        handlers = [_set_errors(stream, "regbench") for stream in streams]
        sys.stdout, sys.stderr = (cast(TextIO, _Lasting(stream)) for stream in streams)
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):  # else the interpreter's end finds that a reader has gone
                with suppress(OSError):  # which whoever wrote has said
                    stream.flush()
            sys.stdout, sys.stderr = before
            for stream, handler in zip(streams, handlers, strict=True):
                _set_errors(stream, handler)


def _set_errors(stream: TextIO, handler: str | None) -> str | None:
    """Sets what becomes of characters that the stream's encoding lacks; returns what it was."""
    if not isinstance(stream, TextIOWrapper):
        return None
    before = stream.errors
    stream.reconfigure(errors=handler)
    return before
