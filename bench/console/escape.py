"""Text from files and folders, made harmless for a terminal and for a file."""

from contextlib import suppress


def escape(text: str) -> str:
    """The text with control characters, which could move a terminal's cursor or worse, shown as \\xNN."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def to_utf8(text: str) -> bytes:
    """The text in UTF-8, whatever is in it: bytes of files' names that are none are shown as \\xNN.

    Names have such bytes where they were made under another locale; under LC_ALL=C every byte above 127 counts as one.
    """
    with suppress(UnicodeEncodeError):  # half of a surrogate pair, which is no byte
        text = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return text.encode(errors="backslashreplace")
