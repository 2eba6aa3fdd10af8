"""Whatever dies, the same command finishes the rest: killed sweeps end in the tables of one that was left alone."""

import csv
import os
import pty
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from conftest import REGULARIZERS, fits

REGBENCH = Path(sys.executable).with_name("regbench")
TIMES = re.compile("^(resumed|train_seconds|images_per_second|seconds)")
# Runs of a second or two, with a checkpoint at every few steps.
TASK = (
    *("dataset=digits", "dataset.train_size=400", "model=convnet", "train.batch_size=40", "train.epochs=12"),
    *("train.checkpoint_minutes=0.001", "train.device=cpu"),
)
SMALL = (*TASK, "regularizer=none,[mixup,sam]", "seed=0,1")
ALL = ",".join(name for name in REGULARIZERS if fits(name, "convnet"))
STACKS = "[mixup,label_smoothing,sam],[cutmix,asam,dropout]"
LARGE = (*TASK, f"regularizer={ALL},{STACKS}", "optimizer=sgd,adam")


def start(folder, *arguments, results="results", **how):
    folder.mkdir(exist_ok=True)
    with (folder / f"out-{time.monotonic()}.txt").open("w") as out:
        return subprocess.Popen(
            [REGBENCH, "run", *arguments, f"results_dir={results}"],
            cwd=folder,
            **{"stdout": out, "stderr": subprocess.STDOUT, **how},
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )


def output(folder):
    return "\n".join(path.read_text() for path in sorted(folder.glob("out-*.txt")))


def finish(folder, *arguments):
    code = start(folder, *arguments).wait(600)
    assert code == 0, output(folder)


def tables(folder):
    """The tables but for times."""
    read = {}
    for name in ("runs", "history", "summary"):
        with (folder / "results" / "adhoc" / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        read[name] = [{key: cell for key, cell in row.items() if not TIMES.match(key)} for row in rows]
    return read


def stamps(folder):
    """Which records there are: a run that is trained twice gets another one."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "results" / "runs").glob("*/result.json")}


def trainings(folder):
    """How often each run was trained to its end."""
    logs = (folder / "results" / "runs").glob("*/log.txt")
    return {path.parent.name: len(re.findall("^done", path.read_text(), re.MULTILINE)) for path in logs}


def wait_for_training(folder, process):
    """Waits until the process trains; False if it ended before."""
    while process.poll() is None:
        if list((folder / "results" / "runs").glob("*/lock.*")):
            return True
        time.sleep(0.05)
    return False


def count_epochs(folder):
    return sum(path.read_text().count("epoch=") for path in folder.rglob("log.txt"))


def wait_for_more_epochs(folder, process, number):
    """Waits until so many more have ended in the folder, or the process has."""
    before = count_epochs(folder)
    while process.poll() is None and count_epochs(folder) < before + number:
        time.sleep(0.02)


def kill(process, number):
    """The whole process group dies by SIGKILL; other signals go to the sweep, as a person or a cluster sends them."""
    if number == signal.SIGKILL:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    return process.wait(600)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A function: the tables of a sweep that is left alone."""

    @cache
    def sweep(*arguments):
        folder = tmp_path_factory.mktemp("alone")
        finish(folder, *arguments)
        return tables(folder)

    return sweep


def assert_survives(survivor, arguments, expected, kills, within, seed=0):
    """Kills sweeps at random points, within so many epochs of their start; how many were in training, and whether any
    went on from a checkpoint."""
    draw = random.Random(seed)
    hits, recorded = 0, {}
    for _ in range(kills):
        process = start(survivor, *arguments)
        hits += wait_for_training(survivor, process)
        wait_for_more_epochs(survivor, process, draw.randrange(within))
        kill(process, draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        assert recorded.items() <= stamps(survivor).items(), "a record was lost or replaced"
        recorded = stamps(survivor)
    finish(survivor, *arguments)
    assert recorded.items() <= stamps(survivor).items()
    assert tables(survivor) == expected
    assert set(trainings(survivor).values()) == {1}
    assert not list((survivor / "results").rglob("checkpoint*"))
    assert not list((survivor / "results").rglob("lock.*"))
    assert not list((survivor / "results").rglob(".*"))
    return hits, "goes on after" in "".join(p.read_text() for p in survivor.rglob("log.txt"))


@pytest.mark.slow
def test_a_sweep_that_is_killed_three_times_ends_in_the_same_tables(alone, tmp_path):
    long = (*SMALL, "train.epochs=60")  # so that the last kill finds something to do
    hits, resumed = assert_survives(tmp_path, long, alone(*long), kills=3, within=60)
    assert hits >= 2
    assert resumed


@pytest.mark.slow
def test_a_sweep_of_everything_that_is_killed_thirty_times_ends_in_the_same_tables(alone, tmp_path):
    hits, resumed = assert_survives(tmp_path, LARGE, alone(*LARGE), kills=30, within=12)
    print(f"{hits} of 30 kills hit a training")
    assert hits >= 15
    assert resumed


def assert_shared(folder, arguments, processes, expected):
    sweeps = [start(folder, *arguments) for _ in range(processes)]
    assert [sweep.wait(600) for sweep in sweeps] == [0] * processes, output(folder)
    assert tables(folder) == expected
    assert set(trainings(folder).values()) == {1}


@pytest.mark.slow
def test_two_sweeps_at_once_train_each_run_once(alone, tmp_path):
    assert_shared(tmp_path, SMALL, 2, alone(*SMALL))


@pytest.mark.slow
def test_four_sweeps_at_once_train_each_run_once(alone, tmp_path):
    assert_shared(tmp_path, LARGE, 4, alone(*LARGE))


def wait_for_epochs(folder, process):
    while "epoch=2 " not in "".join(path.read_text() for path in folder.rglob("log.txt")):
        assert process.poll() is None, output(folder)
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_to_stop_has_the_run_in_training_write_its_checkpoint_first(number, tmp_path):
    long = (*TASK, "train.epochs=5000", "train.checkpoint_minutes=null")
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        process = start(tmp_path, *long)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for_epochs(tmp_path, process)
    process.send_signal(number)
    if number == signal.SIGHUP:  # the shell sends it, and the system: the second one is no impatience
        process.send_signal(number)
    assert process.wait(600) == 128 + number
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 1
    assert "regbench: interrupted" in output(tmp_path)
    assert not list(tmp_path.rglob("lock.*"))


def test_under_nohup_a_sweep_outlives_its_terminal(tmp_path):
    ours, theirs = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does, for the processes that are started
    try:
        process = start(tmp_path, *TASK, "train.epochs=40", **streams)
    finally:
        signal.signal(signal.SIGHUP, before)
    os.close(theirs)
    wait_for_epochs(tmp_path, process)
    process.send_signal(signal.SIGHUP)
    os.close(ours)  # each further write fails
    assert process.wait(300) == 0
    assert len(stamps(tmp_path)) == 1
