"""What another process has just replaced or removed is gone, on NFS too, where that is ESTALE."""

import errno
import json
import os
import shutil
from argparse import Namespace
from pathlib import Path

import pytest

import bench
from bench.cli.completion import complete_exp
from bench.disk.files import remove_parts, write_atomically
from bench.disk.gone import is_file, is_gone, look_again, names_in, read_if_there, remove, remove_folder
from bench.disk.lock import holder, take
from bench.errors import LockLost
from bench.record import merge, tables
from bench.record.data import copy_data, read_data
from bench.record.folder import read_result, record_stamp
from bench.record.inventory import delete, find
from bench.training.checkpoint import read_checkpoint

GOLDEN = Path(__file__).parent / "golden"
STALE, ABSENT = OSError(errno.ESTALE, "Stale file handle"), FileNotFoundError(errno.ENOENT, "No such file")


@pytest.fixture
def results(tmp_path):
    shutil.copytree(GOLDEN / "runs", tmp_path / "results" / "runs")
    shutil.copytree(GOLDEN / "digits_smoke", tmp_path / "results" / "digits_smoke")
    return tmp_path / "results"


@pytest.fixture
def stale(monkeypatch):
    """A function: what is done to a file of that name by that function fails so many times."""

    def make(name, function, times=10**9, error=STALE):
        owner, attribute = (os, function[3:]) if function.startswith("os.") else (Path, function)
        real, left = getattr(owner, attribute), [times]

        def fail(path, *arguments, **named):
            if Path(path).name == name and left[0] > 0:
                left[0] -= 1
                raise error
            return real(path, *arguments, **named)

        monkeypatch.setattr(owner, attribute, fail)

    return make


def test_it_is_one_thing_by_whatever_name():
    assert all(map(is_gone, (STALE, ABSENT, NotADirectoryError(), FileNotFoundError())))
    assert not any(map(is_gone, (PermissionError(errno.EACCES, ""), OSError(errno.EIO, ""), ValueError())))


def test_what_has_replaced_a_file_is_read(results, stale):
    folder = next((results / "runs").iterdir())
    whole, stamp = read_result(folder), record_stamp(folder)
    stale("result.json", "read_bytes", times=1)
    stale("result.json", "stat", times=1)
    assert (read_result(folder), record_stamp(folder)) == (whole, stamp)


def test_other_errors_are_no_absence(results, stale):
    stale("result.json", "read_bytes", error=OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="Input/output"):
        read_result(next((results / "runs").iterdir()))


@pytest.mark.parametrize("error", [STALE, ABSENT])
def test_a_record_that_is_gone_is_none(error, results, stale):
    folder = next((results / "runs").iterdir())
    for function in ("read_bytes", "stat", "open"):
        stale("result.json", function, error=error)
    assert (read_result(folder), record_stamp(folder), is_file(folder / "result.json")) == (None, "", False)


@pytest.mark.parametrize("error", [STALE, ABSENT])
def test_a_table_that_is_gone_is_empty(error, results, stale):
    for name in ("runs.csv", "asked.txt", "arms.json", "commands.txt"):
        stale(name, "read_bytes", error=error)
    for read in (tables.read_rows, tables.read_requested_runs, tables.read_settings, tables.read_commands):
        assert not read(results, "digits_smoke")


def test_a_table_that_was_replaced_is_read(results, stale):
    rows = tables.read_rows(results, "digits_smoke")
    frame = bench.results("digits_smoke", results)
    stale("runs.csv", "read_bytes", times=1)
    assert tables.read_rows(results, "digits_smoke") == rows
    stale("runs.csv", "read_bytes", times=1)
    assert bench.results("digits_smoke", results).equals(frame)


def test_an_experiment_is_there_by_either_of_its_files(results, stale):
    stale("runs.csv", "stat")
    assert tables.experiments(results) == ["digits_smoke"]


@pytest.mark.parametrize("function", ["read_bytes", "os.listdir"])
def test_a_lock_that_is_gone_is_nobodys(function, tmp_path, stale):
    with take(tmp_path):
        stale("lock.1" if function == "read_bytes" else tmp_path.name, function, times=3)
        assert holder(tmp_path) is None


def test_an_owner_whose_lock_is_gone_finds_out(tmp_path, stale):
    held = take(tmp_path)
    stale("lock.1", "os.utime")
    stale("lock.1", "unlink")
    with pytest.raises(LockLost):
        held.check()
    held.release()


def test_a_folder_that_is_removed_while_its_lock_is_taken_is_made_again(tmp_path, stale):
    for number, error in enumerate((STALE, ABSENT)):
        stale("lock.1", "open", times=1, error=error)
        with take(tmp_path / str(number)) as held:
            held.check()


def test_a_file_of_another_host_whose_heartbeat_cannot_be_read_is_gone(tmp_path, stale):
    (tmp_path / "lock.1").write_text('{"host": "elsewhere", "pid": 1, "started": "boot/pid:[1]/1", "token": "t"}')
    stale("lock.1", "stat")
    assert holder(tmp_path) is None


def test_what_is_on_record_of_data_may_be_gone_or_replaced(tmp_path, stale):
    record = {"images": {}, "doubles": {}, "equal_images": []}
    for side in ("ours", "theirs"):
        (tmp_path / side).mkdir()
    write_atomically(tmp_path / "theirs" / "datasets" / "a.json", json.dumps(record))
    write_atomically(tmp_path / "theirs" / "datasets" / "b.json", json.dumps(record))
    stale("a.json", "read_bytes", times=1)
    stale("b.json", "read_bytes")
    assert read_data(tmp_path / "theirs", "a") == record
    assert read_data(tmp_path / "theirs", "b") is None
    copy_data(tmp_path / "ours", tmp_path / "theirs")
    assert names_in(tmp_path / "ours" / "datasets") == ["a.json"]


def test_a_checkpoint_that_is_gone_is_none(tmp_path, stale, monkeypatch):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK")

    def fail(*_, **__):
        raise STALE

    monkeypatch.setattr("bench.training.checkpoint._is_whole", fail)
    monkeypatch.setattr("bench.training.checkpoint.torch.load", fail)
    assert read_checkpoint(tmp_path) is read_checkpoint(tmp_path, lazily=True) is None
    assert (tmp_path / "checkpoint.pt").is_file()  # nothing was set aside


def test_removing_what_is_gone_is_done(tmp_path, stale):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".a.1.part").write_bytes(b"")
    stale("a", "unlink")
    stale(".a.1.part", "unlink")
    for path in (tmp_path / "a", tmp_path / "nothing", tmp_path / "b" / "below"):
        remove(path)
    remove_parts(tmp_path)
    remove_parts(tmp_path / "nowhere")
    remove_folder(tmp_path / "nowhere")
    assert (names_in(tmp_path / "nowhere"), read_if_there(tmp_path / "nowhere")) == ([], None)


def test_a_write_that_fails_says_why_also_where_its_part_is_gone(tmp_path, stale, monkeypatch):
    monkeypatch.setattr("bench.disk.files.os.fsync", lambda _: 1 / 0)
    monkeypatch.setattr("bench.disk.files.secrets.token_hex", lambda _: "1")
    stale(f".a.{os.getpid()}-1.part", "unlink")
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a", "text")


def test_looking_again_ends():
    looks = []

    def look():
        looks.append(1)
        raise STALE

    with pytest.raises(OSError, match="Stale"):
        look_again(look)
    assert len(looks) == 3


def test_the_inventory_goes_on_where_runs_are_removed_meanwhile(results, stale):
    runs = find(results)
    assert {run.run_id for run in runs} == set(names_in(results / "runs"))
    for function in ("read_bytes", "stat"):
        stale("result.json", function)
        stale("checkpoint.pt", function)
    assert {run.run_id for run in find(results)} == {run.run_id for run in runs}  # their rows are there
    shutil.rmtree(results / "runs" / runs[0].run_id)
    assert delete(results, runs) == []
    assert names_in(results / "runs") == []


def test_deleting_goes_on_where_others_remove_files_of_the_folder(results, monkeypatch):
    real, failures = shutil.rmtree, [STALE, ABSENT]

    def rmtree(path, *arguments, **named):
        if failures:
            raise failures.pop()
        real(path, *arguments, **named)

    monkeypatch.setattr("bench.disk.gone.shutil.rmtree", rmtree)
    assert delete(results, find(results)) == []
    assert names_in(results / "runs") == []


def test_a_merge_copies_a_run_anew_where_a_file_was_replaced_meanwhile(results, tmp_path, monkeypatch):
    real, failures = shutil.copyfile, [STALE, ABSENT]

    def copyfile(*arguments):
        if failures:
            raise failures.pop()
        real(*arguments)

    monkeypatch.setattr("bench.record.merge.shutil.copyfile", copyfile)
    merge.merge(tmp_path / "ours", results)
    assert names_in(tmp_path / "ours" / "runs") == names_in(results / "runs")
    for name in names_in(results / "runs"):
        assert read_result(tmp_path / "ours" / "runs" / name) == read_result(results / "runs" / name)


def test_what_the_shell_offers_is_what_is_there(results, stale):
    assert complete_exp(Namespace(results_dir=results)) == ["digits_smoke"]
    stale("runs.csv", "stat")
    assert complete_exp(Namespace(results_dir=results)) == []


def test_a_heartbeat_goes_on_where_the_network_is_away(tmp_path, stale):
    held = take(tmp_path)
    stale("lock.1", "os.utime", error=OSError(errno.EIO, "Input/output error"))
    held.check()
    held.release()
