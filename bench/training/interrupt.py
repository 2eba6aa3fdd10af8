"""Ctrl-C, SIGTERM and SIGHUP: a training writes a checkpoint first; whatever else is going on ends at once.

Cluster managers announce a preemption by a signal of their own (submitit: SIGUSR2), whose handler hands the job in
again: it is called after the checkpoint.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ANNOUNCEMENTS = (signal.SIGUSR1, signal.SIGUSR2)
_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_asked: signal.Signals | None = None
_deferring = False


def requests() -> list[signal.Signals]:
    """The signals that ask a process to stop; without a dropped connection's where `nohup` has it ignored."""
    return [each for each in _REQUESTS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to stop; `signal` is which one."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = signal.Signals(number)


@contextmanager
def handling(patient: bool = False) -> Iterator[None]:
    """Has signals raise Interrupted, or, within `deferring`, only be noted.

    Args:
        patient: whether further signals are noted like the first; else a second one raises at once.
    """
    if threading.current_thread() is not threading.main_thread():  # only there can it be done
        yield
        return

    came: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        came.append(number)
        if number == signal.SIGHUP and len(came) > 1:  # the shell sends it, and the system: nobody is impatient
            return
        if not _deferring or (stop_requested() and not patient):
            raise Interrupted(number)
        request_stop(signal.Signals(number))

    global _asked
    _asked = None
    announced = [each for each in _ANNOUNCEMENTS if callable(signal.getsignal(each))]
    previous = {each: signal.signal(each, handle) for each in (*requests(), *announced)}
    try:
        yield
    except Interrupted as interrupted:
        _restore(previous)
        requeue = previous.get(interrupted.signal)
        if interrupted.signal in announced and callable(requeue):
            requeue(interrupted.signal, None)
        raise
    finally:
        _restore(previous)
        _asked = None


@contextmanager
def deferring() -> Iterator[None]:
    """Within it a signal is only noted: whoever works there looks for it in its own time, by `stop_requested`."""
    global _deferring
    _deferring = True
    try:
        yield
    finally:
        _deferring = False


def request_stop(number: signal.Signals) -> None:
    """Notes a signal as if it had come."""
    global _asked
    _asked = number


def stop_requested() -> bool:
    """Whether a signal was noted."""
    return _asked is not None


def stop_if_requested() -> None:
    """Raises Interrupted where a signal was noted."""
    if _asked is not None:
        raise Interrupted(_asked)


def _restore(previous: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None]) -> None:
    for each, handler in previous.items():
        signal.signal(each, handler)
