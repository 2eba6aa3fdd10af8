"""A container that runs as a number: no HOME, and a user whom the system does not know."""

import getpass
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY

from bench.machine.home import ensure_home

AS_A_NUMBER = """
import os, pwd, sys
for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "REGBENCH_CACHE"):
    os.environ.pop(name, None)
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
from bench.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def unknown(monkeypatch, tmp_path):
    def fail(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def test_who_has_no_home_gets_one_of_his_own(unknown, tmp_path):
    ensure_home()
    assert Path.home() == tmp_path / f"regbench-{os.getuid()}"
    assert Path.home().stat().st_mode & 0o777 == 0o700


def test_a_home_that_somebody_else_has_put_there_is_not_taken(unknown, tmp_path, monkeypatch):
    other = os.getuid() + 1
    (tmp_path / f"regbench-{other}").mkdir()
    monkeypatch.setattr("os.getuid", lambda: other)
    ensure_home()
    assert Path.home().parent == tmp_path
    assert Path.home().name != f"regbench-{other}"


def test_who_has_no_name_gets_his_number(unknown, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # as containers may set it
    ensure_home()
    assert getpass.getuser() == str(os.getuid())


def test_a_home_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    ensure_home()
    assert os.environ["HOME"] == str(tmp_path)


@pytest.mark.slow
def test_a_user_who_is_only_a_number_trains_and_reports(split, tmp_path):
    pictures = ("dataset=image_folder", f"dataset.root={split}", "model=mlp", "train.batch_size=2", "train.epochs=1")
    compiled = ("train.compile=true", "train.tracker=none")
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for arguments in (["run", *pictures], ["run", *TINY, *compiled], ["report", "adhoc"], ["list"]):
        command = [sys.executable, "-c", AS_A_NUMBER, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / f"regbench-{os.getuid()}" / ".cache" / "regbench").is_dir()
    assert not (tmp_path / "~").exists()
