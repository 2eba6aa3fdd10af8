"""Locks in shared folders: one process at a time works in a folder, whatever machine it runs on, and whatever dies.

A lock is a file `lock.<n>` that names its owner's host, pid and process start. It is created exclusively, which network
file systems do, too (flock is not needed). A dead owner on this host is known at once; one on another host is taken for
dead when its heartbeat, the file's modification time by the file server's own clock, is older than STALE_SECONDS. Who
takes over creates the next number, looks again that nobody else is alive, and removes the dead one's file: so an owner
that was only asleep finds at its next check that it lost the lock.
"""

import json
import os
import re
import secrets
import socket
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from bench.disk.gone import is_gone, look_again, names_in, read_if_there, remove, unless_gone
from bench.errors import LockLost

HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 120.0
_HIDDEN = "hidden"


@dataclass(frozen=True)
class Owner:
    """Who holds a lock: a process by its host, pid and start; `sweep` is the sweep that it works for."""

    host: str
    pid: int
    started: str
    sweep: str = ""
    token: str = ""

    def __str__(self) -> str:
        return f"{self.host} (pid {self.pid})"

    @property
    def here(self) -> bool:
        """Whether it is a process that this one could see: on this host since its last start, and in one namespace."""
        return (self.host, self.started.rpartition("/")[0]) == (socket.gethostname(), _machine())

    @property
    def runs(self) -> bool:
        """Whether the process, one of `here`, is there."""
        return process_start(self.pid) in (self.started, _HIDDEN)


def this_process(sweep: str = "") -> Owner:
    """This process as an owner."""
    return Owner(socket.gethostname(), os.getpid(), process_start(os.getpid()), sweep, secrets.token_hex(8))


def process_start(pid: int) -> str:
    """What tells a process from another one that has its pid after it; empty where there is none, or a dead one.

    `hidden` where it is another user's, and the system shows no more than that it is there (/proc under hidepid).
    """
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, PermissionError):
        if not _accepts_signals(pid):
            return ""
        return _HIDDEN if Path("/proc/self/stat").exists() else f"{_machine()}/"  # no /proc: only the pid is known
    except ProcessLookupError:
        return ""
    return "" if state in "ZX" else f"{_machine()}/{others[18]}"


def _accepts_signals(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@cache
def _machine() -> str:
    """This machine since its last start, and the namespace of process ids in it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


class Lock:
    """A lock that this process holds; its heartbeat goes on until it is released."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path, self.owner = path, owner
        self._released = Event()
        Thread(target=self._beat, daemon=True).start()

    def check(self) -> None:
        """Raises LockLost where another process has taken the lock over."""
        owner = _read(self.path)
        if owner is None or owner.token != self.owner.token or not _touch(self.path):
            raise LockLost(f"the lock {self.path} was taken over")

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            _touch(self.path)

    def release(self) -> None:
        """Gives the lock back, if it is still held."""
        self._released.set()
        owner = _read(self.path)
        if owner is not None and owner.token == self.owner.token:
            remove(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def take(folder: Path, sweep: str = "") -> Lock | None:
    """The folder's lock, or None where a living process holds it.

    The folder is made if need be, but none above it: where results were moved away, nothing begins anew in their place.

    Raises:
        OSError: the folder cannot be written to.
    """
    return look_again(lambda: _try_to_take(folder, sweep))  # somebody may be removing the folder


def _try_to_take(folder: Path, sweep: str) -> Lock | None:
    folder.mkdir(exist_ok=True)
    others = _locks(folder)
    if any(map(_is_alive, others)):
        return None
    owner = this_process(sweep)
    path = folder / f"lock.{max(map(_number, others), default=0) + 1}"
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(asdict(owner), file)
    except FileExistsError:  # another process was faster
        return None
    except OSError as error:
        remove(path)
        error.filename = error.filename or str(path)  # a full disk does not say which file
        raise
    others = [other for other in _locks(folder) if other != path]
    if any(map(_is_alive, others)):
        remove(path)
        return None
    for other in others:
        remove(other)
    return Lock(path, owner)


def wait_for(folder: Path) -> Lock:
    """The folder's lock, as soon as it is free: for what takes a moment."""
    while (lock := take(folder)) is None:
        time.sleep(0.05)
    return lock


def holder(folder: Path) -> Owner | None:
    """The living process that holds the folder's lock, if any."""
    return next((_read(path) for path in _locks(folder) if _is_alive(path)), None)


def is_abandoned(folder: Path) -> bool:
    """Whether a process died while it held the folder's lock."""
    locks = _locks(folder)
    return bool(locks) and not any(map(_is_alive, locks))


def _locks(folder: Path) -> list[Path]:
    return [folder / name for name in names_in(folder) if re.fullmatch(r"lock\.\d+", name)]


def _number(path: Path) -> int:
    return int(path.suffix[1:])


def _read(path: Path) -> Owner | None:
    """The owner that a lock names, None where there is no lock; unknown while it is being written."""
    content = read_if_there(path)
    try:
        return None if content is None else Owner(**json.loads(content))
    except (ValueError, TypeError):
        return Owner("unknown", 0, "")


def _is_alive(path: Path) -> bool:
    owner = _read(path)
    if owner is None:
        return False
    if owner.here and (started := process_start(owner.pid)) != _HIDDEN:
        return started == owner.started
    # On another host; or another user's process here, maybe a later one with this pid: the heartbeat decides.
    status = unless_gone(path.stat)
    return status is not None and _server_time(path.parent) - status.st_mtime < STALE_SECONDS


def _server_time(folder: Path) -> float:
    """Now, by the clock that also sets the heartbeats: machines' own clocks may differ."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:  # a folder that may only be read
        return time.time()


def _touch(path: Path) -> bool:
    """Sets the heartbeat; False where the file is gone."""
    try:
        os.utime(path)
    except OSError as error:  # a network that is away may be back
        return not is_gone(error)
    return True
