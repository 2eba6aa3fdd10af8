"""A home for users who have none: in a container that runs as a number, libraries look for ~ and find nothing."""

import os
from pathlib import Path
from tempfile import gettempdir, mkdtemp


def ensure_home() -> None:
    """Sets HOME, in this process and those that it starts, to a temporary folder of the user's, where ~ is unknown."""
    try:
        Path.home()
    except RuntimeError:
        folder = Path(gettempdir(), f"regbench-{os.getuid()}")
        folder.mkdir(0o700, exist_ok=True)
        own = folder.stat().st_uid == os.getuid()  # not one that somebody else has put there
        os.environ["HOME"] = str(folder) if own else mkdtemp(prefix="regbench-")
