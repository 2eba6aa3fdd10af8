"""Text in lines of a width: between words, and a stack (mixup+label_smoothing+sam) after a `+`, but not in a name."""

import re
from textwrap import TextWrapper

from bench.console.escape import escape


class _Wrapper(TextWrapper):
    def _split(self, text: str) -> list[str]:
        return [part for chunk in super()._split(text) for part in re.split(r"(?<=\w\+)(?=[^\W\d])", chunk)]


def wrap(text: str, width: int, lines: int | None = None) -> list[str]:
    """The text in lines of at most that width; where they may be only so many, an ellipsis for what is left out.

    A word that is longer than a line is broken.
    """
    return _Wrapper(width, break_on_hyphens=False, max_lines=lines, placeholder=" …").wrap(escape(text))


def wrap_name(name: str, width: int) -> list[str]:
    """A name in lines of at most that width, or of its longest part's, which stays whole."""
    return _Wrapper(max(width, 1), break_on_hyphens=False, break_long_words=False).wrap(name)
