"""A home and a name for users who have none: in a container that runs as a number, libraries look for both."""

import getpass
import os
from pathlib import Path
from tempfile import gettempdir, mkdtemp


def ensure_home() -> None:
    """Sets, in this process and those that it starts, HOME to a temporary folder of the user's where ~ is unknown, and
    USER to the user's number where the system has no name for it (torch 2.6 asks for one when it compiles)."""
    try:
        Path.home()
    except RuntimeError:
        folder = Path(gettempdir(), f"regbench-{os.getuid()}")
        folder.mkdir(0o700, exist_ok=True)
        own = folder.stat().st_uid == os.getuid()  # not one that somebody else has put there
        os.environ["HOME"] = str(folder) if own else mkdtemp(prefix="regbench-")
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the second since Python 3.13
        os.environ["USER"] = str(os.getuid())
