"""Text from files and folders, made harmless for a terminal."""


def escape(text: str) -> str:
    """The text with control characters, which could move a terminal's cursor or worse, shown as \\xNN."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
