"""Every kind of file that a run leaves, damaged at random: no traceback, no other number, and the same tables after."""

import json
import random
import re
import shutil
from collections import Counter

import pytest
from conftest import TINY

from bench.cli import run as app
from bench.cli.run import train_and_compare
from bench.errors import UsageError
from bench.evidence.comparison import COMPARISON_COLUMNS
from bench.measure import SCORES
from bench.record import folder as record
from bench.record import tables
from bench.record.backfill import BACKFILLED
from bench.record.columns import RUN_COLUMNS, SUMMARY_COLUMNS
from bench.record.experiment import Experiment
from bench.record.folder import (
    CHECKPOINT,
    HISTORY,
    LOGITS,
    RESULT,
    WEIGHTS,
    read_result,
    run_folder,
    run_folders,
)
from bench.record.logits import read_logits
from bench.report.command import _find_damage
from bench.sweep.plan import make_plan
from bench.training.run import train_run

pytestmark = pytest.mark.slow
OF_RUNS = (RESULT, HISTORY, LOGITS, WEIGHTS, BACKFILLED, "config.yaml", "log.txt")
OF_TABLES = ("runs.csv", "history.csv", "summary.csv", "comparison.csv", "arms.json", "asked.txt", "commands.txt")
KNOWN = {*RUN_COLUMNS, *tables.HISTORY_COLUMNS, *SUMMARY_COLUMNS, *COMPARISON_COLUMNS}
TIMES = re.compile("seconds|images_per_second|resumed")  # and whether a checkpoint served


class Stopped(KeyboardInterrupt):
    """Ends a training in its middle."""


def compose(folder):
    own = ("train.epochs=3", "train.checkpoint_minutes=1e-9", "regularizer=none,mixup", "seed=0,1", "keep_weights=true")
    return app.compose([*TINY, *own, f"results_dir={folder}"])


def finish(folder):
    return train_and_compare(compose(folder), lambda worker, _: worker(0))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Four runs; one has the record of a regbench that did not know all of the columns yet."""
    folder = tmp_path_factory.mktemp("finished") / "results"
    assert finish(folder) == 0
    older = run_folders(folder)[0]
    stripped = {key: value for key, value in read_result(older).items() if key not in SCORES}
    (older / RESULT).write_bytes(record.seal(stripped))
    assert finish(folder) == 0
    assert (older / BACKFILLED).exists()
    return folder


@pytest.fixture(scope="module")
def unfinished(finished, tmp_path_factory):
    """The same, but that one run was stopped in its second epoch."""

    def stop(epoch, *_):
        if epoch.number == 2:
            raise Stopped

    folder = tmp_path_factory.mktemp("unfinished") / "results"
    shutil.copytree(finished, folder)
    planned = make_plan(compose(folder))[-1]
    shutil.rmtree(run_folder(folder, planned.run_id))
    run_folder(folder, planned.run_id).mkdir()
    with pytest.raises(Stopped):
        train_run(planned.run, run_folder(folder, planned.run_id), stop, keep_weights=True)
    return folder


def read_numbers(folder):
    """The tables but for TIMES."""
    read = {}
    for name in OF_TABLES[:4]:
        rows = [row for row in tables.read_csv(folder / "adhoc" / name) if not TIMES.search(row.get("metric", ""))]
        known = {key for key in KNOWN if not TIMES.search(key)}  # a damaged name of a column is an unknown column
        read[name] = [{key: cell for key, cell in row.items() if key in known} for row in rows]
    return read | {"arms.json": json.loads((folder / "adhoc" / "arms.json").read_text())}


def damage(path, draw):
    """Cuts, zeroes or flips; what was done."""
    content = bytearray(path.read_bytes())
    place, kind = draw.randrange(len(content)), draw.choice(("cut", "zeroed", "flipped", "flipped", "removed"))
    if kind == "removed":
        path.unlink()
        return kind
    if kind == "cut":
        del content[place:]
    elif kind == "zeroed":
        end = min(len(content), place + draw.choice((1, 16, 4096)))
        content[place:end] = bytes(end - place)
    else:
        content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return f"{kind} at {place}"


def check_words(error):
    assert len(str(error).splitlines()) <= 3


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def assert_only_its_own_numbers(folder, expected):
    """What a command that only reads makes of it: each row as it was, or none, or a word about what is wrong."""
    known = {row["run_id"]: row for row in expected["runs.csv"]}
    try:
        rows, settings, records = tables.collect(folder, "adhoc")
    except UsageError as error:
        check_words(error)
        return
    for row in rows:
        if row["run_id"] in records:
            assert known[row["run_id"]].items() <= row.items()
    for each in run_folders(folder):
        read_logits(each)
    list(_find_damage(Experiment("adhoc", folder, rows, settings)))


def assert_mended(folder, expected):
    """The same command ends with the same tables, maybe once a file that it names is removed."""
    for _ in range(3):
        try:
            assert finish(folder) == 0
            break
        except UsageError as error:
            check_words(error)
            (named,) = [path for path in files_of(folder) if str(path) in str(error)]
            named.unlink()
    assert read_numbers(folder) == expected


@pytest.mark.parametrize("seed", range(4))
def test_a_finished_sweep_outlives_damage_to_any_of_its_files(seed, finished, tmp_path, capsys):
    expected, draw, done = read_numbers(finished), random.Random(seed), Counter()
    for trial in range(600):
        folder = tmp_path / str(trial)
        shutil.copytree(finished, folder)
        path = draw.choice(files_of(folder))
        what = damage(path, draw)
        print(f"{path.relative_to(folder)} {what}")
        done[path.name] += 1
        assert_only_its_own_numbers(folder, expected)
        if trial % 4 == 0:  # a command takes 0.3 s
            assert_mended(folder, expected)
        shutil.rmtree(folder)
        capsys.readouterr()
    assert done.keys() >= {*OF_RUNS, *OF_TABLES}


@pytest.mark.parametrize("seed", range(2))
def test_a_sweep_that_was_stopped_outlives_damage_to_its_checkpoint(seed, unfinished, finished, tmp_path, capsys):
    expected, draw = read_numbers(finished), random.Random(seed)
    for trial in range(200):
        folder = tmp_path / str(trial)
        shutil.copytree(unfinished, folder)
        (path,) = folder.rglob(CHECKPOINT)
        print(damage(path, draw))
        assert_mended(folder, expected)
        shutil.rmtree(folder)
        capsys.readouterr()
