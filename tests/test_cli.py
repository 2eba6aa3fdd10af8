"""The installed command, in a subprocess, as a user types it."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY

from bench import __version__, cli
from bench.cli import run as app
from bench.config import AXES, CONF

REGBENCH = Path(sys.executable).with_name("regbench")
SMOKE = ("run", "+exp=digits_smoke", "train.device=cpu")
TIMES = {"resumed", "train_seconds", "images_per_second"}


def regbench(*arguments, cwd, **env):
    return subprocess.run(
        [REGBENCH, *arguments],
        cwd=cwd,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("REGBENCH_")}, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder in which the smoke experiment has run, and what it printed."""
    folder = tmp_path_factory.mktemp("swept")
    return folder, regbench(*SMOKE, cwd=folder)


def test_the_smoke_experiment_trains_every_combination_and_writes_the_tables(swept):
    folder, done = swept
    assert done.returncode == 0, done.stderr
    rows = read(folder / "results/digits_smoke/runs.csv")
    assert {(row["regularizer"], row["seed"]) for row in rows} == {(r, s) for r in ("none", "mixup+sam") for s in "01"}
    assert {row["status"] for row in rows} == {"done"}
    assert {row["gradient_evaluations"] for row in rows if row["regularizer"] == "none"} == {"8"}
    assert {row["gradient_evaluations"] for row in rows if row["regularizer"] != "none"} == {"16"}
    assert len(read(folder / "results/digits_smoke/summary.csv")) == 2
    assert len(read(folder / "results/digits_smoke/history.csv")) == 8
    for row in rows:
        names = {path.name for path in (folder / "results/runs" / row["run_id"]).iterdir()}
        assert names == {"config.yaml", "result.json", "history.csv", "logits.npz", "log.txt"}


def test_what_is_piped_reads_well_and_hydra_leaves_no_folders(swept):
    folder, done = swept
    assert "4 runs, 0 on record, 4 to train" in done.stdout
    assert "mixup+sam" in done.stdout
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert len([line for line in done.stdout.splitlines() if re.match(r"\[\d/4\]", line)]) == 4
    assert done.stderr == ""
    assert [path.name for path in folder.iterdir()] == ["results"]


def test_what_is_on_record_is_not_trained_again_and_force_trains_it_anew(swept):
    folder, _ = swept
    before = (folder / "results/digits_smoke/runs.csv").read_text()
    again = regbench(*SMOKE, cwd=folder)
    assert again.returncode == 0
    assert "4 runs, 4 on record, 0 to train" in again.stdout
    assert (folder / "results/digits_smoke/runs.csv").read_text() == before
    forced = regbench(*SMOKE, "force=true", cwd=folder)
    assert forced.returncode == 0
    after = read(folder / "results/digits_smoke/runs.csv")
    for old, new in zip(csv.DictReader(before.splitlines()), after, strict=True):
        assert {k: v for k, v in old.items() if k not in TIMES} == {k: v for k, v in new.items() if k not in TIMES}


@pytest.mark.slow
def test_weights_are_kept_also_of_runs_on_record_and_a_comparison_starts_from_them(swept, tmp_path, capsys):
    def run(*overrides):
        assert app.run(["+exp=digits_smoke", "train.device=cpu", "regularizer=none", "seed=0", *overrides]) == 0
        return capsys.readouterr().out

    here = f"results_dir={tmp_path}"
    run(here)
    assert "1 run, 0 on record, 1 to train" in run(here, "keep_weights=true")
    assert "1 run, 1 on record, 0 to train" in run(here, "keep_weights=true")
    (weights,) = (tmp_path / "runs").glob("*/weights.pt")
    run(here, "force=true")
    assert weights.is_file()  # what is kept stays kept
    tuned = regbench(*SMOKE, here, f"model.weights={weights}", "dataset.train_size=100,200", cwd=tmp_path)
    assert (tuned.returncode, tuned.stderr) == (0, "")
    rows = read(tmp_path / "digits_smoke/runs.csv")
    assert len(rows) == 1 + 8
    assert len({row["settings"] for row in rows if row["regularizer"] == "none"}) == 3


@pytest.mark.slow
def test_a_run_that_two_experiments_ask_for_is_trained_once(swept):
    folder, _ = swept
    adhoc = regbench(
        *("run", "model=mlp", "dataset.train_size=200", "train.epochs=2", "train.batch_size=50", "train.device=cpu"),
        "train.precision=fp32",
        cwd=folder,
    )
    assert "1 run, 1 on record, 0 to train" in adhoc.stdout
    assert read(folder / "results/adhoc/runs.csv")[0]["exp"] == "adhoc"


def test_report_prints_the_same_table_from_the_records_and_moves_with_them(swept):
    folder, done = swept
    (folder / "results").rename(folder / "elsewhere")
    report = regbench("report", "digits_smoke", cwd=folder, REGBENCH_RESULTS="elsewhere")
    flag = regbench("report", "digits_smoke", "--results-dir", "elsewhere", cwd=folder)
    (folder / "elsewhere").rename(folder / "results")
    assert report.returncode == flag.returncode == 0
    assert report.stdout == flag.stdout

    def rows_of(text):
        return [line.split()[:6] for line in text.splitlines() if re.match(r"(none|mixup\+sam) ", line)]

    assert rows_of(report.stdout) == rows_of(done.stdout)


@pytest.mark.slow
def test_a_run_that_diverges_does_not_stop_the_others_and_exits_with_1(tmp_path):
    done = regbench(*SMOKE, "regularizer=none", "seed=0", "optimizer.sgd.lr=1e30,0.1", cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(r"diverged: digits mlp none sgd seed 0 \(\w+\): the loss is nan at step 1", done.stdout)
    rows = read(tmp_path / "results/digits_smoke/runs.csv")
    assert sorted(row["status"] for row in rows) == ["diverged", "done"]
    again = regbench(*SMOKE, "regularizer=none", "seed=0", "optimizer.sgd.lr=1e30,0.1", cwd=tmp_path)
    assert again.returncode == 1
    assert "2 on record" in again.stdout


@pytest.mark.parametrize("arguments", [("run", "regularizer=samm"), ("report", "nothing")])  # more: test_settings.py
def test_bad_input_exits_with_2_in_at_most_three_lines_and_trains_nothing(arguments, tmp_path):
    done = regbench(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert 1 <= len(done.stderr.splitlines()) <= 3
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("typed", ["list", "--help", "report digits"])
def test_a_reader_that_stops_early_is_no_error(typed, tmp_path):
    shutil.copytree(CONF.parent / "tests" / "tables" / "digits", tmp_path / "results" / "digits")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = ["bash", "-c", f"set -o pipefail; {REGBENCH} {typed} | true"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_sweep_goes_on_where_its_reader_stops_early(tmp_path):
    command = f"set -o pipefail; {REGBENCH} run {' '.join(TINY)} seed=0,1 | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.glob("results/runs/*/result.json"))) == 2


@pytest.mark.slow
def test_hydras_own_flags_work(tmp_path):
    shown = regbench("run", "+exp=digits_smoke", "--cfg", "job", cwd=tmp_path)
    assert shown.returncode == 0
    assert "batch_size: 50" in shown.stdout
    for flags in (["-m", "--info", "defaults"], ["model=mlp", "-c", "job", "-m", "seed=3"]):
        assert regbench("run", *flags, cwd=tmp_path).returncode == 0
    helped = regbench("speed", "--help", cwd=tmp_path)
    assert helped.returncode == 0
    for command in ("run", "plan", "tune", "speed"):  # one text, which names them all
        assert f"`{command}`" in helped.stdout
    assert "regularizer" in helped.stdout
    assert not list(tmp_path.iterdir())


def test_list_has_a_line_for_each_file(tmp_path):
    listed = regbench("list", cwd=tmp_path).stdout
    for axis in (*AXES, "exp"):
        for path in (CONF / axis).glob("*.yaml"):
            assert re.search(rf"^  {path.stem} +\S", listed, re.MULTILINE), path
    assert "cutmix" not in regbench("list", "model", cwd=tmp_path).stdout


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["list"], ["report", "digits_smoke"]])
def test_commands_that_read_do_not_import_torch(arguments, swept, monkeypatch):
    monkeypatch.delenv("REGBENCH_RESULTS")
    code = f"""
import sys
from bench.cli import main
try:
    main({arguments!r})
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
assert not {{"torch", "torchvision"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=swept[0], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("module", ["bench", "bench.cli"])
def test_as_a_module_it_is_the_same_command(module, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", module, *arguments]
        own = {key: value for key, value in os.environ.items() if not key.startswith("REGBENCH_")}
        done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout, done.stderr

    for arguments in (["--help"], ["list", "model"], ["report", "nothing"]):
        done = regbench(*arguments, cwd=tmp_path)
        assert run(*arguments) == (done.returncode, done.stdout, done.stderr)
    assert run("plan", *TINY)[0] == 0


def test_version(tmp_path):
    assert regbench("--version", cwd=tmp_path).stdout == f"regbench {__version__}\n"


def test_an_interrupt_that_a_library_hides_behind_its_own_error_is_still_an_interrupt(monkeypatch, capsys):
    def interrupted(arguments):
        try:
            raise KeyboardInterrupt
        finally:
            None.flags  # noqa: B018  what OmegaConf does when it is interrupted

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    with pytest.raises(SystemExit) as stop:
        cli.main(["run"])
    assert stop.value.code == 130
    assert capsys.readouterr().err.startswith("regbench: interrupted")
