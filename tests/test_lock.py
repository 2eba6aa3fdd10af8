"""One process at a time, whatever dies; and who sleeps too long finds out."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.disk import lock
from bench.disk.lock import holder, is_abandoned, process_start, take, this_process, wait_for
from bench.errors import LockLost


def other_process(folder, then="sys.stdin.read()"):
    """A process that takes the folder's lock, says so, and does something."""
    code = f"import sys; from pathlib import Path; from bench.disk.lock import take; held = take(Path({str(folder)!r}))"
    code += f"; print(held is not None, flush=True); {then}"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip() == "True"


def write_lock(folder, number=1, age=0.0, **owner):
    """A lock as another process, maybe on another machine, has left it."""
    path = folder / f"lock.{number}"
    foreign = {"host": "elsewhere", "pid": 1, "started": "boot/pid:[1]/1", "token": "t"}
    path.write_text(json.dumps(foreign | owner))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_it_is_held_until_it_is_released_and_leaves_nothing_behind(tmp_path):
    with take(tmp_path):
        assert take(tmp_path) is None
        assert (holder(tmp_path).host, holder(tmp_path).pid) == (socket.gethostname(), os.getpid())
    assert holder(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_of_many_processes_one_gets_it(tmp_path):
    others = [other_process(tmp_path) for _ in range(4)]
    assert sum(got for _, got in others) == 1
    for process, _ in others:
        process.kill()
        process.communicate()


def test_a_dead_owner_on_this_host_is_known_at_once_also_as_a_zombie(tmp_path):
    process, got = other_process(tmp_path)
    assert got
    assert take(tmp_path) is None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped: its pid is still there
    assert is_abandoned(tmp_path)
    with take(tmp_path) as held:
        held.check()
        assert [path.name for path in tmp_path.iterdir()] == ["lock.2"]
    process.communicate()


def test_another_process_with_the_pid_of_a_dead_owner_does_not_hold_it(tmp_path):
    me = this_process()
    machine, _, start = me.started.rpartition("/")
    write_lock(tmp_path, host=me.host, pid=me.pid, started=f"{machine}/{int(start) - 1}")
    assert holder(tmp_path) is None
    assert take(tmp_path) is not None


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError], ids=["hidepid=2", "hidepid=1"])
def test_another_users_process_that_proc_hides_is_alive_while_signals_find_it(error, tmp_path, monkeypatch):
    me, read_text = this_process(), Path.read_text
    (tmp_path / "copy").mkdir()
    process, got = other_process(tmp_path)
    assert got

    def hide(path, *arguments, **options):
        if path.match(f"/proc/{process.pid}/*"):
            raise error(str(path))
        return read_text(path, *arguments, **options)

    def answer(kind):
        def kill(pid, number):
            raise kind

        monkeypatch.setattr(os, "kill", kill)

    monkeypatch.setattr(Path, "read_text", hide)
    answer(PermissionError)
    assert holder(tmp_path).pid == process.pid
    assert take(tmp_path) is None
    assert me.runs
    (lock,) = tmp_path.glob("lock.*")
    for age, dead in ((0, False), (3600, True)):  # the pid may be that of a later process
        write_lock(tmp_path / "copy", age=age, **json.loads(lock.read_text()))
        assert is_abandoned(tmp_path / "copy") == dead
    answer(ProcessLookupError)
    assert is_abandoned(tmp_path)
    process.kill()
    process.communicate()


@pytest.mark.parametrize("started", ["another boot/pid:[1]/1", ""])
def test_another_host_is_dead_after_120_s_without_a_heartbeat(started, tmp_path):
    """A host of this one's name is another one, too, unless boot and namespace are the same."""
    for host in ("elsewhere", socket.gethostname()):
        write_lock(tmp_path, age=110, host=host, started=started)
        assert holder(tmp_path).pid == 1
        assert take(tmp_path) is None
        write_lock(tmp_path, age=130, host=host, started=started)
        assert holder(tmp_path) is None
        with take(tmp_path):
            assert [path.name for path in tmp_path.iterdir()] == ["lock.2"]


def test_a_lock_that_is_just_being_written_is_held(tmp_path):
    (tmp_path / "lock.1").touch()
    assert take(tmp_path) is None
    os.utime(tmp_path / "lock.1", (0, 0))
    assert take(tmp_path) is not None


def test_the_heartbeat_goes_on_and_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    beats, touch = threading.Event(), lock._touch
    monkeypatch.setattr(lock, "_touch", lambda path: (touch(path), beats.set())[0])
    before = set(threading.enumerate())
    with take(tmp_path) as held:
        (beat,) = set(threading.enumerate()) - before
        os.utime(held.path, (0, 0))
        for _ in range(2):  # one may have been on its way
            beats.clear()
            assert beats.wait(600)
        assert held.path.stat().st_mtime > 0
    beat.join(600)
    assert not beat.is_alive()
    assert not list(tmp_path.iterdir())


def test_an_owner_that_slept_too_long_finds_that_it_was_taken_over(tmp_path):
    asleep = take(tmp_path)
    # As another host sees it: a foreign owner without a heartbeat.
    owner = json.loads(asleep.path.read_text())
    write_lock(tmp_path, age=200, token=owner["token"])
    with take(tmp_path) as awake:
        with pytest.raises(LockLost):
            asleep.check()
        awake.check()
        asleep.release()  # takes nothing from the other
        awake.check()
    write_lock(tmp_path, 1)  # a third one, in a file of the old name
    with pytest.raises(LockLost):
        asleep.check()


def test_who_sees_two_leaves_them_alone(tmp_path, monkeypatch):
    """Between looking and creating another process may have taken the lock by another number."""
    looks = iter([[], [write_lock(tmp_path, 7)]])
    monkeypatch.setattr(lock, "_locks", lambda _: next(looks))
    assert take(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["lock.7"]


def test_wait_for_waits(tmp_path, monkeypatch):
    """Another process holds it, and gives it up only once this one has been seen to wait."""
    process, _ = other_process(tmp_path, "sys.stdin.readline(); held.release(); sys.stdin.read()")
    sleeps = []

    def sleep(seconds):
        sleeps.append(seconds)
        if len(sleeps) == 3:
            process.stdin.write("go\n")
            process.stdin.flush()
        time_sleep(seconds)

    time_sleep = time.sleep
    monkeypatch.setattr(lock.time, "sleep", sleep)
    with wait_for(tmp_path):
        assert len(sleeps) >= 3
    process.kill()
    process.communicate()


def test_a_folder_that_cannot_be_written_to_is_an_error_and_holds_no_lock(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        take(tmp_path / "file")
    assert holder(tmp_path / "file") is None
    assert holder(tmp_path / "nowhere") is None


def test_process_start_tells_processes_apart():
    assert process_start(os.getpid()) == process_start(os.getpid()) != process_start(1)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert process_start(gone.pid) == ""


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    """Of an error without a name a command that only reports made a traceback."""

    def fill(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", fill)
    with pytest.raises(OSError, match="No space left") as caught:
        take(tmp_path)
    assert caught.value.filename == str(tmp_path / "lock.1")
    assert not list(tmp_path.iterdir())
