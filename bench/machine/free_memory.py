"""How much memory there is for the taking."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_sharers = 1  # processes

_GROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def share_among(processes: int) -> None:
    """From now on this process takes its part alone: so many like it load the same data at a time."""
    global _sharers
    _sharers = processes


def find_free_memory() -> int:
    """Bytes that this process can still get, or may have; where the system does not say, all that there are.

    Of processes that share them each is told its part. What a container or a cluster's job may have counts whole: most
    of what it uses is the page cache, which gives way.
    """
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        free = 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))
    for file in _find_limits():
        with suppress(OSError, ValueError):  # "max" is none
            free = min(free, int(file.read_text("utf-8")))
    return free // _sharers


def _find_limits() -> Iterator[Path]:
    """The files that hold the limits of this process's cgroup and of those around it, by the system's version of them.

    In a container its own cgroup is the root, whatever path the kernel gives.
    """
    with suppress(OSError, ValueError):
        for line in _OWN.read_text("utf-8", "replace").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                name = "memory.limit_in_bytes" if controllers else "memory.max"
                group = Path(path.lstrip("/"))
                yield from (_GROUPS / controllers / each / name for each in (group, *group.parents))
